"""The workspace in force: home, configuration, plugins, store, registry, and what surrounds every operation."""
