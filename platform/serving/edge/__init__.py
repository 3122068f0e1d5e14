"""Who is asking, may they, and how often."""
