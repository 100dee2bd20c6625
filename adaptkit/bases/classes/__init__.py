"""What the model's own class says of its parameters."""
