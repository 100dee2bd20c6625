"""What every command stands on: the session, signals, text that is shown."""
