"""What a base is on disk: the files it is made of, what they hold, and their hashes."""
