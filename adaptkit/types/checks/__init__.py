"""What JSON from elsewhere may hold, checked by msgspec; nothing here is imported until it is needed."""
