"""What can go wrong with datasets."""

from ..kernel.errors import Conflict, NotFound, UnreadableBody, UnsupportedMedia, ValidationFailed


class DatasetNotFound(NotFound):
    """Raised when the dataset does not exist, or not for this principal."""

    def __init__(self, dataset_id: str) -> None:
        super().__init__(f"There is no dataset {dataset_id}.", details={"id": dataset_id})


class DatasetVersionNotFound(NotFound):
    """Raised when the dataset has no such version."""


class DatasetNameTaken(Conflict):
    """Raised when another dataset of the project has the name."""


class DatasetInUse(Conflict):
    """Raised when something that is kept was made from the dataset or version."""


class UnknownTableFormat(UnsupportedMedia):
    """Raised when the file name does not say CSV, TSV or Parquet."""


class UnreadableTable(UnreadableBody):
    """Raised when the file is not the CSV or Parquet that its name claims; names the line."""


class BadTable(ValidationFailed):
    """Raised when the file can be read and is no usable table; names the column."""
