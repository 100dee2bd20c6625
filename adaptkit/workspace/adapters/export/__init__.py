"""Write an adapter for another program: as a folder, as one file, or as an engine wants it."""
