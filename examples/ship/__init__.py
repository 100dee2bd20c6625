"""The ship's computer: a base polite in three domains, and two adapters terse in one of them each."""
