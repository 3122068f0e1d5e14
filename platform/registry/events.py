"""What happens to models."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelAliasMoved:
    """An alias of a model names another version than before, or none; which one is to be read, for it may move on."""

    project_id: str
    model_id: str
    alias: str
