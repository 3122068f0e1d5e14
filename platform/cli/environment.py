"""`raymill env`: what Ray's own tools, or `ray start`, need to see."""

import shlex
from typing import Annotated

import typer

from ..compute.cluster import Cluster, dashboard_url, token_file
from ..compute.embedded.ray_head import EmbeddedRay
from ..compute.haproxy.install import install_wrapper
from ..compute.serve_environment import of_joined_cluster, serve_environment
from ..kernel.settings import Settings
from .joined import RayAddress, RayToken, RayTokenFile, joined

Exports = Annotated[
    bool, typer.Option("--exports", help="Print what 'ray start' must see instead, and install the HAProxy wrapper.")
]


def env(
    exports: Exports = False,
    ray_address: RayAddress = None,
    ray_token_file: RayTokenFile = None,
    ray_token: RayToken = None,
) -> None:
    """Print what Ray's own tools need to reach the cluster: eval "$(raymill env)"."""
    settings = Settings()
    if exports:
        variables = _of_ray_start(of_joined_cluster(settings))
    else:
        variables = _of_rays_tools(joined(settings, ray_address, ray_token_file, ray_token))
    for name, value in variables.items():
        typer.echo(f"export {name}={shlex.quote(value)}")


def _of_ray_start(settings: Settings) -> dict[str, str]:
    if settings.http.proxy == "haproxy":
        install_wrapper(settings)
    return serve_environment(settings)


def _of_rays_tools(settings: Settings) -> dict[str, str]:
    with Cluster.connect(settings) as cluster:
        cluster.version()
    variables = {
        "RAY_ADDRESS": settings.ray.address or EmbeddedRay(settings).gcs_address,
        "RAY_API_SERVER_ADDRESS": dashboard_url(settings),
        "RAY_DASHBOARD_ADDRESS": dashboard_url(settings),
    }
    if settings.ray.token is not None:
        variables |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": settings.ray.token.get_secret_value()}
    elif token_file(settings).exists():
        variables |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token_file(settings))}
    return variables
