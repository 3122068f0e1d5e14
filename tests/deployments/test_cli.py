"""`raymill deploy` says who may call the endpoint."""

from typing import Protocol

import pytest
import typer
from typer.testing import CliRunner, Result

from factories import Tenant
from raymill.cli.deployments import app as deployments
from raymill.cli.deployments import deploy
from raymill.cli.models import app as models
from raymill.kernel.settings import Settings
from raymill.sdk.credentials import save
from registry_makers import import_version, make_model

from .conftest import Door, ModelServer, make_key, once_followed, token

pytestmark = pytest.mark.integration

app = typer.Typer()
app.command("deploy")(deploy)
app.add_typer(deployments, name="deployments")
app.add_typer(models, name="models")


def test_access_is_set_kept_and_shown(
    platform_url: str, settings: Settings, alice: Tenant, digits: int, door: Door
) -> None:
    save(settings.home, platform_url, token(alice), "")
    key_id, key = make_key(alice)

    def raymill(*words: str) -> Result:
        done = CliRunner().invoke(app, [*words], env={"RAYMILL_HOME": str(settings.home)})
        assert done.exit_code == 0, done.output
        return done

    deploy_digits = ("deploy", "digits", "--project", "alice-project")
    raymill(*deploy_digits, "--access", "public")
    assert door.by(None) == 200
    raymill(*deploy_digits)
    assert (door.by(None), "public" in raymill("deployments", "list").output) == (200, True)
    raymill(*deploy_digits, "--access", "keys", "--key", key_id)
    assert [door.by(None), door.by(token(alice)), door.by(key)] == [401, 403, 200]


class Raymill(Protocol):
    """The command in a home whose login is Alice's, for her project."""

    def __call__(self, *words: str, code: int = 0) -> str: ...


@pytest.fixture
def raymill(platform_url: str, settings: Settings, alice: Tenant) -> Raymill:
    """Return the command; it says how it must end, and gives what was printed."""
    save(settings.home, platform_url, token(alice), "")

    def run(*words: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, [*words, "--project", "alice-project"], env={"RAYMILL_HOME": str(settings.home)})
        assert done.exit_code == code, done.output
        return done.output

    return run


def test_traffic_moves_by_the_command_line(raymill: Raymill, alice: Tenant, digits: int, server: ModelServer) -> None:
    raymill("deploy", "digits", "--timeout", "2.5", "--max-queued", "9", "--rate-limit", "50")
    document = server.directory.endpoints["alice-project.digits"].document
    assert (document.timeout_s, document.max_queued) == (2.5, 9)
    raymill("deploy", "digits")
    assert "revision 1: 30 %, revision 2: 70 %" in raymill("deployments", "traffic", "digits", "1=30", "2=70")
    assert "revision 2: 100 %" in raymill("deployments", "promote", "digits")
    assert "revision 1: 100 %" in raymill("deployments", "rollback", "digits")
    assert "stopped; no traffic" in raymill("deployments", "stop", "digits")
    assert "stopped; no traffic" in raymill("deployments", "events", "digits")
    assert "ready; revision 1: 100 %" in raymill("deployments", "start", "digits")
    shown = raymill("deployments", "show", "digits")
    assert "revision 2: version 1, ready" in shown
    assert "curl -X POST" in shown
    raymill("deployments", "traffic", "digits", "1:100", code=2)
    raymill("deployments", "delete", "digits")
    assert alice.get("/deployments").json()["items"] == []


def test_a_deployment_follows_an_alias_by_the_command_line(
    raymill: Raymill, alice: Tenant, three: int, server: ModelServer
) -> None:
    raymill("models", "alias", "set", "digits", "champion", "1")
    raymill("deploy", "digits", "--alias", "champion")
    raymill("deploy", "digits", "--timeout", "2.5")
    shown = raymill("deployments", "show", "digits")
    assert ("follows the alias 'champion'\n" in shown, "revision 2: version 1, ready" in shown) == (True, True)
    raymill("models", "alias", "set", "digits", "champion", "3")
    assert "champion: 3" in raymill("models", "list")
    assert "ready; revision 3: 100 %" in raymill("deployments", "show", "digits")
    raymill("models", "alias", "delete", "digits", "champion")
    assert "The alias 'champion' is gone" in raymill("deployments", "show", "digits")


def test_a_name_that_another_model_has_is_refused(
    raymill: Raymill, alice: Tenant, three: int, server: ModelServer
) -> None:
    import_version(alice, make_model(alice, "other"))
    raymill("deploy", "digits", "--version", "1")
    refused = raymill("deploy", "other", "--name", "digits", code=1)
    (found,) = alice.get("/deployments").json()["items"]
    assert [revision["model_version"] for revision in found["revisions"]] == [1], refused
    raymill("deploy", found["model_id"], "--name", "digits", "--version", "2")
    assert "revision 2: version 2, ready" in raymill("deployments", "show", "digits")


def test_events_that_end_before_their_time_are_an_error(
    raymill: Raymill, alice: Tenant, digits: int, server: ModelServer, looks: list[str]
) -> None:
    raymill("deploy", "digits")
    with once_followed(looks, lambda: alice.post("/auth/logout-all")):
        told = raymill("deployments", "events", "digits", "--follow", code=1)
    assert "ready; revision 1: 100 %" in told


def test_a_key_goes_with_keys_alone() -> None:
    for words in (["--key", "key_1"], ["--key", "key_1", "--access", "public"], ["--access", "everybody"]):
        done = CliRunner().invoke(app, ["deploy", "digits", "--project", "p", *words])
        assert done.exit_code == 2, done.output
