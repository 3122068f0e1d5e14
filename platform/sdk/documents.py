"""The common root of everything that the platform answers."""

from pydantic import BaseModel, ConfigDict


class Document(BaseModel):
    """An answer; fields that this version of the library does not know are kept."""

    model_config = ConfigDict(extra="allow", validate_by_name=True, validate_by_alias=True, protected_namespaces=())
