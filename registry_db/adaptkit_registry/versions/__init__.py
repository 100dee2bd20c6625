"""What is asked of and changed in adapters and versions: names, search, lineage, corrections, limits."""
