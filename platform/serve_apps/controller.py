"""The reconcile loops as a Ray Serve app without a route."""

import asyncio
from contextlib import suppress
from uuid import uuid4

from pydantic import BaseModel
from ray import serve
from ray.serve import Application

# A resource that every Ray head has.
HEAD_NODE = "node:__internal_head__"


class ControllerArgs(BaseModel):
    """What an operator may set for this app in apps.yaml."""


class Controller:
    """One replica; of several, in this cluster or another, only the one with the lease acts."""

    def __init__(self) -> None:
        # Serve also imports this module in a short-lived process that only reads the application's shape.
        from ..compute.cluster import Cluster
        from ..controller.steps import make_scheduler
        from ..gateway.subscriptions import subscribe
        from ..kernel.outage import DatabaseUnavailable
        from ..kernel.resources import Resources
        from .preparation import prepare

        settings = prepare(schema=True)
        with Cluster.connect(settings) as cluster:
            cluster_id = cluster.cluster_id()
        self._resources = Resources.open(settings, app="controller")
        subscribe(self._resources)
        self._scheduler, dedicated = make_scheduler(self._resources, cluster_id=cluster_id, holder=uuid4().hex)
        # In an outage the steps find out when it is over; a start must not need the database.
        with suppress(DatabaseUnavailable):
            dedicated.begin()
        self._whole, self._patience_s = dedicated.whole, settings.controller.fleet_patience_s
        self._scheduler.start()

    async def check_health(self) -> None:
        """Tell Serve that the loops live; Serve replaces the replica when this raises.

        The first check is part of the start: until it ends Serve does not call the app RUNNING, and KubeRay does not
        let a new cluster answer.
        """
        if not self._whole.is_set():
            await asyncio.to_thread(self._whole.wait, self._patience_s)
            # Later checks never wait; this one is late, and a loop that is, too, is no reason not to start.
            self._whole.set()
            return
        self._scheduler.check()

    def __del__(self) -> None:
        # Serve calls this when it stops the replica; __init__ may have failed half-way.
        with suppress(AttributeError):
            self._scheduler.stop()
            self._resources.close()


def build(args: ControllerArgs) -> Application:
    """Build the app; Serve calls this with the ``args`` of apps.yaml."""
    deployment = serve.deployment(
        name="controller",
        num_replicas=1,
        health_check_period_s=10,
        health_check_timeout_s=10,
        graceful_shutdown_timeout_s=10,
        # Where the dashboard is, which may listen on the head's loopback alone.
        ray_actor_options={"num_cpus": 0, "resources": {HEAD_NODE: 0.001}},
    )
    return deployment(Controller).bind()
