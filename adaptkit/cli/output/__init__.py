"""What the command line prints: one sink, tables, times, errors."""
