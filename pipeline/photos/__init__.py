"""Photo files <-> arrays. No ray here."""
