"""Models that answer: fetched, tried, held in memory, run in turn, or asked by handle."""
