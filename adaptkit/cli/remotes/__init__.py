"""Commands for remotes."""
