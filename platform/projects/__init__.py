"""Projects and their members: the walls between tenants."""
