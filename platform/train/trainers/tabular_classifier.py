"""The trainer ``tabular-classifier``: which of several classes a row belongs to."""

from .tabular_training import train_tabular
from .task import TrainedModel, TrainingTask


def train(task: TrainingTask) -> TrainedModel:
    """Train on a target of classes."""
    return train_tabular(task, "classification")
