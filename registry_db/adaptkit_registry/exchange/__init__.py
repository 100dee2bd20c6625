"""The whole registry as JSON lines, out and in."""
