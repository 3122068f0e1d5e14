"""What a process that runs a user's code must not inherit from the platform.

Every process of a Ray cluster starts with the environment of ``ray start``; setting a variable to the empty string in the
runtime environment hides it. Ray's own token cannot be hidden: the process needs it to reach the cluster.
"""

import os

from ..kernel.settings import environment_names


def blanked_environment() -> dict[str, str]:
    """Return every setting of the platform as an empty variable."""
    inherited = {name for name in os.environ if name.startswith("RAYMILL_")}
    return dict.fromkeys(sorted(inherited | environment_names().keys()), "")
