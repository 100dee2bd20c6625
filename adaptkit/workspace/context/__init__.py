"""The workspace in force.

Home, configuration, plugins, store, registry, and what surrounds every operation.
"""
