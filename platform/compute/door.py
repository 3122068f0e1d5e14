"""Where a job of the cluster reaches the platform's API."""

from ..kernel.settings import Settings
from .cluster import ALIVE, Cluster


def job_api_url(settings: Settings, cluster: Cluster) -> str:
    """Return the URL of the public door as a process on any node of the cluster reaches it.

    The operator's URL for jobs, or else for users, when there is one; on one node the door itself; on several the
    head's, which always has a proxy.

    Raises:
        ClusterUnreachable: If the cluster does not answer.
    """
    if settings.http.jobs_url:
        return settings.http.jobs_url.rstrip("/")
    if settings.http.public_url:
        return settings.http.base_url
    nodes = [node for node in cluster.nodes() if node.state == ALIVE]
    head = next((node.address for node in nodes if node.is_head), None)
    if len(nodes) > 1 and head:
        return f"http://{head}:{settings.http.port}"
    return settings.http.local_url


__all__ = ["job_api_url"]
