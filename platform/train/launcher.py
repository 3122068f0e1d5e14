"""Starts a submitted program with its secrets: ``python -m raymill.train.launcher <project id> <command>``.

Ray, its dashboard and its logs see references only (``secret://name``). Here, in the job's own process, each variable
that is one gets the value, fetched by the job's own key, and the command takes the place of this process.
"""

import os
import sys
from collections.abc import Mapping
from functools import partial

from ..sdk import RaymillError
from ..sdk.train import connect
from .patience import PATIENT, once_there

REFERENCE = "secret://"


def references(environment: Mapping[str, str]) -> dict[str, str]:
    """Map the variables that refer to a secret to the secret's name."""
    return {name: value.removeprefix(REFERENCE) for name, value in environment.items() if value.startswith(REFERENCE)}


def main() -> None:
    """Fetch the secrets and become the command.

    Raises:
        SystemExit: If a secret cannot be had; the reason is in the job's log.
    """
    project_id, command = sys.argv[1:]
    environment = dict(os.environ)
    try:
        with connect(retries=PATIENT) as client:
            for variable, name in references(environment).items():
                environment[variable] = once_there(partial(client.secrets.value, project_id, name))
    except RaymillError as error:
        sys.exit(f"The job's secrets could not be fetched: {error}")
    # The command is a shell's, as it is when Ray runs it.
    os.execve("/bin/sh", ["sh", "-c", command], environment)  # noqa: S606


if __name__ == "__main__":
    main()
