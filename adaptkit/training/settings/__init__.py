"""What is to be trained and how: one typed configuration, its targets, seed and start, and as PEFT reads it."""
