"""Remotes: what is pushed, pulled, signed and described there."""
