"""Parameters in paths, as Starlette matches them before anybody is asked who they are."""

from starlette.convertors import IntegerConvertor, register_url_convertor


class _VersionConvertor(IntegerConvertor):
    """A whole number of so many digits as PostgreSQL's integers surely hold."""

    regex = "[0-9]{1,9}"


register_url_convertor("version", _VersionConvertor())

#: The number of a version.
VERSION = "{version:version}"

__all__ = ["VERSION"]
