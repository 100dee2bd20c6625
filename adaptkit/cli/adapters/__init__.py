"""Commands for adapters and their versions."""
