"""Training: data files, tokens with their loss mask, replay, seeds, guards, and the job a trainer plugin runs."""
