"""The adapters that a project's `adaptkit.toml` asks for."""
