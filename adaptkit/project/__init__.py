"""What a project needs: `adaptkit.toml` and `adaptkit.lock`."""
