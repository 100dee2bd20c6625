"""Commands that make adapters out of adapters."""
