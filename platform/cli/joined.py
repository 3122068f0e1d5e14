"""Options by which a command addresses a Ray cluster that somebody else started; the names are Ray's own."""

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import SecretStr

from ..compute.embedded.ray_head import EmbeddedRay
from ..kernel.settings import Settings

RayAddress = Annotated[
    str | None,
    typer.Option(envvar="RAY_ADDRESS", help="Use this Ray cluster (its dashboard URL or GCS address); start none."),
]
RayTokenFile = Annotated[
    Path | None, typer.Option(envvar="RAY_AUTH_TOKEN_PATH", help="File with the token of that Ray cluster.")
]
RayToken = Annotated[
    str | None, typer.Option(envvar="RAY_AUTH_TOKEN", hidden=True, help="The token of that Ray cluster.")
]
# Where Ray's own clients look last.
RAYS_OWN_TOKEN = Path("~/.ray/auth_token")


def joined(settings: Settings, address: str | None, token_file: Path | None, token: str | None) -> Settings:
    """Settings that join the named cluster; our own head, as `raymill env` names it, is not another cluster."""
    own = {EmbeddedRay(settings).gcs_address, f"http://127.0.0.1:{settings.ray.dashboard_port}"}
    if address is not None and address.rstrip("/") in own:
        return settings
    if settings.ray.address is None and address is None:
        return settings
    given: dict[str, Any] = {"address": settings.ray.address or address}
    if token and settings.ray.token is None:
        given["token"] = SecretStr(token)
    if settings.ray.token_file is None:
        given |= _token_file(token_file)
    return settings.model_copy(update={"ray": settings.ray.model_copy(update=given)})


def _token_file(named: Path | None) -> dict[str, Path]:
    path = (named or RAYS_OWN_TOKEN).expanduser().absolute()
    return {"token_file": path} if named or path.exists() else {}


__all__ = ["RayAddress", "RayToken", "RayTokenFile", "joined"]
