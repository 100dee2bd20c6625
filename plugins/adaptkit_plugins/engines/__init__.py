"""The built-in engines: programs of others that serve adapters from the registry."""
