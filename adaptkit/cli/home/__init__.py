"""Commands for the home itself."""
