"""Projects, their members and teams, secrets and quotas: the walls between tenants."""
