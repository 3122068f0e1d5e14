"""Write the manifests of the platform for KubeRay: template.yaml with apps.yaml and Ray Serve's environment in it.

python clusters/kuberay/render.py --image registry.example.com/raymill:0.1.0 > raymill.yaml
"""

import argparse
import os
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path
from string import Template
from textwrap import indent
from typing import Any

import yaml

from raymill.compute.serve_config import apps_file, read_serve_config
from raymill.compute.serve_environment import of_joined_cluster, serve_environment
from raymill.kernel.settings import HttpSettings, Settings

# KubeRay calls the service of the doors after it.
NAME = "raymill"
HOME = "/home/ray/.raymill"
CONFIG_FOLDER, KEYS_FOLDER = "/etc/raymill", "/etc/raymill-keys"
# Two of each app that answers requests, on two pods; any pod of the group `system` will do, and no other.
REPLICAS = 2
PLACED = ("api", "inference", "console")
SYSTEM = "raymill_system"
# Threads of a pod's HAProxy: what the group `system` may use of its CPUs.
HAPROXY_THREADS = "4"
# A pod's network is its own, and the doors are reached from other pods.
ALL_INTERFACES = "0.0.0.0"  # noqa: S104


@cache
def settings() -> Settings:
    """The settings that all pods have in common; what is secret or differs from team to team is in the Secret."""
    return of_joined_cluster(
        Settings(
            home=Path(HOME),
            config_file=Path(CONFIG_FOLDER) / "config.json",
            profile="production",
            http=HttpSettings(host=ALL_INTERFACES),
        )
    )


def serve_config() -> dict[str, Any]:
    """apps.yaml with the doors' addresses, and with each app on the pods that hold the Secrets."""
    config = read_serve_config(apps_file(), settings())
    for app in config["applications"]:
        if app["name"] in PLACED:
            app["deployments"] = [
                {
                    "name": app["name"],
                    "num_replicas": REPLICAS,
                    "max_replicas_per_node": 1,
                    "ray_actor_options": {"num_cpus": 0, "resources": {SYSTEM: 1}},
                }
            ]
    return config


def environment() -> list[dict[str, str]]:
    """Variables of every Ray container; none of them is secret, because jobs' pods have them too."""
    own = {
        "RAYMILL_KEYS_DIR": KEYS_FOLDER,
        "RAYMILL_PROFILE": "production",
        "RAYMILL_HTTP__HOST": ALL_INTERFACES,
        "RAYMILL_HTTP__JOBS_URL": f"http://{NAME}-serve-svc:{settings().http.port}",
    }
    variables = serve_environment(settings()) | {"RAY_SERVE_HAPROXY_NBTHREAD": HAPROXY_THREADS} | own
    return [{"name": name, "value": value} for name, value in variables.items()]


def render(*, image: str, gcs_redis: str) -> str:
    """Return the manifests as YAML, with the template's comments."""
    template = Template((Path(__file__).parent / "template.yaml").read_text())
    return template.substitute(
        name=NAME,
        image=image,
        gcs_redis=gcs_redis,
        ray_version=version("ray"),
        config_folder=CONFIG_FOLDER,
        keys_folder=KEYS_FOLDER,
        serve_config=_block(serve_config(), 4),
        environment=_block(environment(), 16),
    )


def _block(document: Any, spaces: int) -> str:
    return indent(yaml.safe_dump(document, sort_keys=False).rstrip(), " " * spaces)


def forget_own_settings() -> None:
    """Leave the variables out of this process that are settings of whoever runs it, and not of the pods."""
    for name in [name for name in os.environ if name.startswith("RAYMILL_")]:
        del os.environ[name]


def main() -> None:
    """Read the arguments and print the manifests."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", default=f"raymill:{version('raymill')}", help="image built from the Dockerfile")
    parser.add_argument("--gcs-redis", default="raymill-gcs-redis:6379", help="Redis in which Ray keeps its state")
    arguments = parser.parse_args()
    forget_own_settings()
    sys.stdout.write(render(image=arguments.image, gcs_redis=arguments.gcs_redis))


if __name__ == "__main__":
    main()
