"""The home itself: its configuration, its trust, its state."""
