"""The inference log and the feedback by the command line."""

import json

import pytest
from typer.testing import CliRunner

from factories import Tenant
from raymill.cli.main import app
from raymill.cli.predictions import label_of
from raymill.kernel.resources import Resources
from raymill.kernel.settings import Settings
from raymill.sdk.credentials import save

from .test_logs import write


@pytest.mark.parametrize(
    ("word", "label"),
    [
        ("red", "red"),
        ("3", 3),
        ('"3"', "3"),
        ("0.5", 0.5),
        ("true", True),
        ("NaN", "NaN"),
        ("null", "null"),
        ("[1]", "[1]"),
    ],
)
def test_labels_are_scalars(word: str, label: object) -> None:
    assert (label_of(word), type(label_of(word))) == (label, type(label))


@pytest.mark.integration
def test_predictions_are_listed_with_what_was_said_of_them(
    platform_url: str, settings: Settings, alice: Tenant, deployment_id: str, resources: Resources
) -> None:
    save(settings.home, platform_url, str(alice.tokens["access_token"]), "")
    write(resources, alice, deployment_id, 5)

    def raymill(*words: str) -> str:
        done = CliRunner().invoke(
            app, ["predictions", *words, "--project", "alice-project"], env={"RAYMILL_HOME": str(settings.home)}
        )
        assert done.exit_code == 0, done.output
        return done.output

    def ids(*words: str) -> list[str]:
        lines = raymill("list", "digits", "--json", *words).splitlines()
        # The platform of this test writes its log to the same place.
        rows = [json.loads(line) for line in lines if line.startswith("{")]
        return [row["request_id"] for row in rows]

    assert ids() == ["req_4", "req_3", "req_2", "req_1", "req_0"]
    assert ids("--limit", "2") == ["req_4", "req_3"]
    assert ids("--revision", "2") == ["req_3", "req_1"]
    assert ids("--status", "422") == ["req_0"]
    assert ids("--request", "req_1") == ["req_1"]
    assert ids("--until", "2020-01-01") == ids("--since", "2120-01-01") == []
    assert "422 VALIDATION_ERROR" in raymill("list", "digits")
    assert '"red"' in raymill("feedback", "digits", "--request", "req_4")
    assert "red" not in raymill("feedback", "digits", "--request", "req_1")
