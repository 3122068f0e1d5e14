"""What a process that runs a user's code must not inherit from the platform.

Every process of a Ray cluster starts with the environment of ``ray start``; setting a variable to the empty string in
the runtime environment hides it. Ray's own token cannot be hidden: the process needs it to reach the cluster.
"""

import os

from ..kernel.settings import environment_names

# Credentials of the object store and the databases that their clients read by themselves.
_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AZURE_STORAGE_CONNECTION_STRING",
    "AZURE_STORAGE_KEY",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "PGPASSFILE",
    "PGPASSWORD",
    "REDISCLI_AUTH",
)


def blanked_environment() -> dict[str, str]:
    """Return every setting of the platform, and the credentials that lie beside them, as empty variables."""
    inherited = {name for name in os.environ if name.startswith("RAYMILL_") or name in _CREDENTIALS}
    return dict.fromkeys(sorted(inherited | environment_names().keys()), "")
