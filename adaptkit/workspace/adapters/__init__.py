"""Adapters and their versions: added, listed, named, noted, removed, written to files."""
