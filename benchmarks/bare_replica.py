"""The least app that Ray Serve runs, on a running cluster: ``python bare_replica.py <address> <name>``."""

import sys

import ray
from ray import serve
from starlette.requests import Request


class Bare:
    """Answers every request alike."""

    async def __call__(self, request: Request) -> str:
        """Answer."""
        return "here"


def main(address: str, name: str) -> None:
    """Deploy it with a route of its name."""
    ray.init(address, log_to_driver=False)
    deployment = serve.deployment(name=name, ray_actor_options={"num_cpus": 0})
    serve.run(deployment(Bare).bind(), name=name, route_prefix=f"/{name}")
    ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
