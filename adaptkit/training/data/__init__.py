"""Training data: files, their forms, rows, tokens."""
