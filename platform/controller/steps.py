"""What the controller does, how often, and under which lease."""

from ..compute.cluster import Cluster
from ..deployments.publisher import store_copies, sweep
from ..deployments.reconcile import DedicatedApps
from ..deployments.runtime import ServeAppRuntime
from ..kernel.resources import Resources
from ..monitoring.retention import forget_logs
from ..train.reconcile import step as reconcile_jobs
from ..train.runtime import RayJobRuntime
from .cleanup import clean, collect_blobs, forget_audit, forget_logins, rewrap
from .leases import LeaseKeeper
from .lost_jobs import LostJobs
from .scheduler import Scheduler, Step
from .static_apps import StaticApps

# One holder for the whole platform: what must not be done twice anywhere.
GLOBAL = "global"
_CLUSTER = "cluster:"
_HOUR_S = 3600.0
_APPS_S = 2.0


def cluster_lease(cluster_id: str) -> str:
    """Return the name of the lease over the apps and jobs of one Ray cluster."""
    return f"{_CLUSTER}{cluster_id}"


def global_steps(resources: Resources) -> list[Step]:
    """Return the steps that one controller does for all clusters."""
    every_s = resources.settings.controller.sweep_s
    return [
        # What was missed in an outage is published as soon as it is over.
        Step("publications", GLOBAL, lambda: sweep(resources), every_s, longest_pause_s=every_s),
        # By itself: a store that hangs or refuses must not hold up what model servers and rollouts wait for.
        Step("copies", GLOBAL, lambda: store_copies(resources), every_s, limit_s=600.0),
        Step("lost-jobs", GLOBAL, LostJobs(resources, prefix=_CLUSTER).step, every_s),
        Step("cleanup", GLOBAL, lambda: clean(resources), _HOUR_S),
        Step("logins", GLOBAL, lambda: forget_logins(resources), _HOUR_S, limit_s=600.0),
        Step("audit", GLOBAL, lambda: forget_audit(resources), _HOUR_S, limit_s=600.0),
        Step("blobs", GLOBAL, lambda: collect_blobs(resources), _HOUR_S, limit_s=600.0),
        Step("logs", GLOBAL, lambda: forget_logs(resources), _HOUR_S, limit_s=600.0),
        Step("secrets", GLOBAL, lambda: rewrap(resources), _HOUR_S),
    ]


def make_scheduler(resources: Resources, *, cluster_id: str, holder: str) -> tuple[Scheduler, DedicatedApps]:
    """Put together the loops of one controller; the caller starts and stops them, and may ask for the apps."""
    lease = cluster_lease(cluster_id)
    controller = resources.settings.controller
    keeper = LeaseKeeper(resources.database, names=(GLOBAL, lease), holder=holder, life_s=controller.lease_s)
    runtime = RayJobRuntime(resources.settings)
    jobs = Step("training-jobs", lease, lambda: reconcile_jobs(resources, runtime), controller.sweep_s, limit_s=120.0)
    static_apps = StaticApps(resources, Cluster.connect(resources.settings), lease)
    apps = Step("static-apps", lease, static_apps.step, _APPS_S)
    # Every cluster runs the apps; what one of them says of its own is what the platform says.
    dedicated = DedicatedApps(
        resources, ServeAppRuntime(resources.settings), is_heard=lambda: keeper.token(GLOBAL) is not None
    )
    own_apps = Step("dedicated-apps", lease, dedicated.step, controller.sweep_s, limit_s=60.0)
    return Scheduler([*global_steps(resources), jobs, apps, own_apps], keeper), dedicated
