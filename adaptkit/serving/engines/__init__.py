"""Other engines: how each wants an adapter laid out, and the gateway before vLLM."""
