"""The ship's computer: a base that is polite, and adapters that teach it naval and medical terseness."""
