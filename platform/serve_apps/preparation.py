"""What the apps that hold state do before they start, so that `serve deploy apps.yaml` needs nothing else to have run.

All of it may run in several processes at once and again at any time: it makes what is missing and changes nothing else.
"""

from ..compute.inside import settings_inside_ray
from ..compute.nodes import check_shared, is_alone
from ..kernel.keyfiles import make_keys
from ..kernel.settings import Settings
from ..kernel.telemetry import configure_logging


def prepare(*, schema: bool) -> Settings:
    """Return the settings of this process, with the cluster's facts, once keys and object store are fit to use.

    Args:
        schema: Whether the app uses the database.

    Raises:
        NotShared: If the cluster's nodes do not see the same object store and keys.
        RaymillError: If the schema cannot be made.
    """
    settings = settings_inside_ray(Settings())
    configure_logging(settings.log)
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    # On several nodes each would make its own.
    if is_alone():
        make_keys(settings.keys_dir)
    else:
        check_shared(settings)
    if schema:
        # SQLAlchemy, which the data plane does without.
        from ..kernel.schema import ensure_schema

        ensure_schema(settings)
    return settings.model_copy(update={"database": settings.database.without_owner})
