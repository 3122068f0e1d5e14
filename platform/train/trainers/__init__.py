"""The built-in trainers: what each takes, and where its code is."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import InvalidHyperparameters, UnknownTrainer
from .columns import Task, check_table


class TabularParameters(BaseModel):
    """Hyperparameters of the tabular trainers."""

    model_config = ConfigDict(extra="forbid")

    target: str = Field(min_length=1)
    epochs: int = Field(20, ge=1, le=10_000)
    batch_size: int = Field(64, ge=1, le=1_000_000)
    learning_rate: float = Field(1e-3, gt=0, le=10)
    hidden_sizes: list[Annotated[int, Field(ge=1, le=65_536)]] = Field([64], max_length=10)
    seed: int = Field(0, ge=0, lt=2**31)
    validation_fraction: float = Field(0.1, gt=0, lt=0.9)


@dataclass(frozen=True)
class Trainer:
    """A way to train, by the name that users ask for."""

    name: str
    framework: str
    parameters: type[BaseModel]
    task: Task
    # "module:function", imported by the driver alone: training libraries are heavy.
    entry: str


TRAINERS = {
    trainer.name: trainer
    for trainer in [
        Trainer(
            name="tabular-classifier",
            framework="pytorch",
            parameters=TabularParameters,
            task="classification",
            entry="raymill.train.trainers.tabular_classifier:train",
        ),
        Trainer(
            name="tabular-regressor",
            framework="pytorch",
            parameters=TabularParameters,
            task="regression",
            entry="raymill.train.trainers.tabular_regressor:train",
        ),
    ]
}


def get_trainer(name: str, framework: str) -> Trainer:
    """Return a trainer by its name.

    Raises:
        UnknownTrainer: If there is none, or it belongs to another framework.
    """
    trainer = TRAINERS.get(name)
    if trainer is None:
        raise UnknownTrainer(f"There is no trainer {name!r}; there are: {', '.join(sorted(TRAINERS))}.")
    if trainer.framework != framework:
        raise UnknownTrainer(f"The trainer {name!r} belongs to the framework {trainer.framework!r}, not {framework!r}.")
    return trainer


def check_parameters(trainer: Trainer, given: dict[str, Any]) -> BaseModel:
    """Return the trainer's hyperparameters with the defaults filled in.

    Raises:
        InvalidHyperparameters: If one is unknown, missing or out of range.
    """
    try:
        return trainer.parameters.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidHyperparameters(f"hyperparameters.{where}: {first['msg']}.") from error


__all__ = ["TRAINERS", "TabularParameters", "Trainer", "check_parameters", "check_table", "get_trainer"]
