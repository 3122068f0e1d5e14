"""What the cluster can never give, where that is known before a job starts."""

import os

from ..kernel.settings import RaySettings
from .errors import ResourcesExceedCluster
from .schemas import ResourceRequirements


def check_resources(settings: RaySettings, wanted: ResourceRequirements) -> None:
    """Refuse more CPUs than the embedded cluster, one node that never grows, offers; of others nothing is known.

    Raises:
        ResourcesExceedCluster: If the job would wait for ever.
    """
    if settings.address is not None:
        return
    offered = settings.num_cpus or os.cpu_count() or 1
    needed = wanted.num_workers * wanted.cpus_per_worker
    if needed > offered:
        raise ResourcesExceedCluster(
            f"The job asks for {needed:g} CPUs ({wanted.num_workers} workers of {wanted.cpus_per_worker:g}), "
            f"and the cluster has {offered}; ask for less.",
            details={"needed": needed, "offered": offered},
        )
