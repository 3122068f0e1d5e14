"""Examples of requests: rows that a version is registered with, for its warm-ups and its documentation."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from ...kernel.errors import ValidationFailed
from ..published.table import Signature
from .instances import predict
from .tensors import Interface
from .v2 import Target


def check_example(signature: Mapping[str, Any], rows: Sequence[Any]) -> None:
    """Read rows as a request to ``predict`` is read.

    Raises:
        ValidationFailed: If they do not fit the signature.
    """
    try:
        body = orjson.dumps({"instances": rows})
    except TypeError as error:
        raise ValidationFailed(f"a value in it has no form in JSON that every reader knows: {error}.") from error
    predict(Target("example", "1", Interface(Signature.model_validate(signature))), body, {})
