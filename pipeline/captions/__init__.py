"""What a photo shows, in words: sources, models, servers, and what people have changed. No ray here."""
