"""Start HAProxy behind the edge's rules: rewrite the configuration in place, then become the real binary.

Runs at every reload, so it is plain standard library. The file keeps its name, because Ray Serve recognises its own
proxies by the path on their command line, and the process keeps its id, because Serve checks that too.
"""

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

from ..precedence import take_precedence
from .rewrite import Rules, UnexpectedConfig, rewrite


def main(argv: Sequence[str]) -> NoReturn:
    """Guard each ``-f`` file of the command line, then run ``binary`` with the same arguments.

    Args:
        argv: The binary, the rules as JSON, and the arguments that Ray Serve gave.
    """
    binary, rules, *arguments = argv
    try:
        guard(config_files(arguments), parse_rules(rules))
    except (OSError, UnexpectedConfig) as error:
        sys.exit(f"HAProxy was not started: {error}")
    take_precedence()
    os.execv(binary, [binary, *arguments])  # noqa: S606


def parse_rules(text: str) -> Rules:
    """Read the rules that the installed launcher carries."""
    fields = json.loads(text)
    return Rules(fields["host"], fields["metrics_host"], tuple(fields["trusted_proxies"]))


def config_files(arguments: Sequence[str]) -> list[Path]:
    """Return the configuration files named on HAProxy's command line."""
    return [Path(value) for flag, value in pairwise(arguments) if flag == "-f"]


def guard(files: Sequence[Path], rules: Rules) -> None:
    """Rewrite the files in place, each in one step."""
    for path in files:
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=path.name, delete=False) as draft:
            try:
                draft.write(rewrite(path.read_text(), rules))
            except BaseException:
                Path(draft.name).unlink()
                raise
        Path(draft.name).replace(path)
