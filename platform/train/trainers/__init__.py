"""The built-in trainers: what each takes, and where its code is."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import InvalidHyperparameters, UnknownTrainer, UnsuitableDataset


class TabularClassifierParameters(BaseModel):
    """Hyperparameters of ``tabular-classifier``."""

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
    # "module:function", imported by the driver alone: training libraries are heavy.
    entry: str


TRAINERS = {
    trainer.name: trainer
    for trainer in [
        Trainer(
            name="tabular-classifier",
            framework="pytorch",
            parameters=TabularClassifierParameters,
            entry="raymill.train.trainers.tabular_classifier:train",
        )
    ]
}

_MAX_CLASSES = 1000
_NUMERIC = ("int", "uint", "float", "double", "halffloat", "bool")


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


def check_table(target: str, columns: list[dict[str, Any]], statistics: dict[str, Any], row_count: int) -> None:
    """Refuse a table that a tabular trainer cannot learn from, before any job starts.

    Raises:
        UnsuitableDataset: The message names the column.
    """
    names = [column["name"] for column in columns]
    if target not in names:
        raise UnsuitableDataset(f"The target column {target!r} is not in the dataset; its columns are {names}.")
    if len(names) < 2:
        raise UnsuitableDataset(f"The dataset has no column beside the target {target!r}.")
    for column in columns:
        name = column["name"]
        if statistics[name]["nulls"]:
            raise UnsuitableDataset(
                f"The column {name!r} has {statistics[name]['nulls']} empty cells; fill or drop them."
            )
        if statistics[name].get("non_finite") and name != target:
            raise UnsuitableDataset(f"The column {name!r} has NaN or infinities; replace or drop them.")
        if name != target and not column["type"].startswith(_NUMERIC):
            raise UnsuitableDataset(f"The column {name!r} is of type {column['type']}; features must be numbers.")
    classes = statistics[target].get("distinct")
    if classes is None or classes > _MAX_CLASSES or classes > row_count // 2:
        raise UnsuitableDataset(f"The target column {target!r} has too many distinct values to be classes.")
    if classes < 2:
        raise UnsuitableDataset(f"The target column {target!r} has only one value; there is nothing to learn.")
