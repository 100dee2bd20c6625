"""What an adapter changes in a base, decided before anything is written."""
