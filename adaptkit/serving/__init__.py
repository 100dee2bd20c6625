"""Many adapters on one live base: the bank, the batches, the server, and what other engines can load."""
