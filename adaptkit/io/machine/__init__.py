"""What this machine has, and work spread over it."""
