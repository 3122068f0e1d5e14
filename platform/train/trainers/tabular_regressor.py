"""The trainer ``tabular-regressor``: which number belongs to a row."""

from .tabular_training import train_tabular
from .task import TrainedModel, TrainingTask


def train(task: TrainingTask) -> TrainedModel:
    """Train on a target of numbers."""
    return train_tabular(task, "regression")
