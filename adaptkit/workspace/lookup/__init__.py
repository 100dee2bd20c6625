"""From what a person names to what it is: versions and artifacts, bases, opened adapters."""
