"""What keeps a home sound: checks, repairs, garbage, copies of the registry."""
