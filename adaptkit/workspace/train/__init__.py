"""Train an adapter, measure what it can, and let it write."""
