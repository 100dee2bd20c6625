"""Places where adapters are shared."""
