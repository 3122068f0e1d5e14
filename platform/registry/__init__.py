"""The model registry: models, versions, artifacts, lineage, and the pins that keep versions from being deleted."""
