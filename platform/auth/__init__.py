"""Who is asking: accounts, sessions, tokens and API keys, and the one table of permissions."""
