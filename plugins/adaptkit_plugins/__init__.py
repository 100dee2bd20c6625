"""The plugins that ship with adaptkit. They use the same entry points as anyone else's."""
