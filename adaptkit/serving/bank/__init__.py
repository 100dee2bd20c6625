"""The bank: stacked low-rank factors of many adapters on one live transformers model."""
