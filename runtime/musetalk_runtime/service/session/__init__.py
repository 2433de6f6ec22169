"""One live session: what it hears, what it makes, and who is told."""
