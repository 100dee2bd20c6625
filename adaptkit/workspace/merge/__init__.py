"""Several adapters into one, and one into another form."""
