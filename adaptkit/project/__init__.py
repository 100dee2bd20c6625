"""The adapters of a project: `adaptkit.toml` and `adaptkit.lock`."""
