"""How far the work is."""
