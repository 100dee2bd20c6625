"""Commands that train, measure and ask models."""
