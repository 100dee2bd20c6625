"""What `--help` shows besides the options: commands grouped by task, and examples."""
