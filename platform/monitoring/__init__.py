"""How deployments do: live metrics read back for people and programs."""
