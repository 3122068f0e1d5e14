"""The OpenAPI document is true: schemathesis sends what it allows, and what it forbids, to every operation.

The caller is an administrator who owns one of everything, and the document is given the ids of these things and valid
bodies as examples, so that the requests come to the work behind the checks, too. What a request changed is put back.

In the suite each operation has the cases that follow from the document and a few generated ones, the same in each run.
``FUZZ_EXAMPLES=200 pytest --timeout 0`` on this file is a long run; ``FUZZ_SEED`` and ``FUZZ_PATH``, a regular
expression, choose other cases.
"""

import logging
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
import structlog
from fastapi import FastAPI
from fastapi.testclient import TestClient
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from schemathesis.schemas import BaseSchema
from sqlalchemy import Engine, text
from sqlmodel import SQLModel

from belongings import Belongings, body_of, make_everything, nouns_of
from factories import PASSWORD, make_tenant
from raymill.auth.models import User
from raymill.kernel.resources import Resources
from raymill.kernel.settings import AuthSettings, LimitSettings, Settings

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

IS_LONG = "FUZZ_EXAMPLES" in os.environ
# Cases of one kind for one place of an operation, in the suite.
ALIKE = 2
PHASES = {"examples", "coverage", "fuzzing"}
CONFIG: dict[str, Any] = {
    "seed": int(os.environ.get("FUZZ_SEED", "1")),
    "continue-on-failure": True,
    "workers": 1,
    "generation": {
        "deterministic": "FUZZ_SEED" not in os.environ,
        "max-examples": int(os.environ.get("FUZZ_EXAMPLES", "2")),
        "no-shrink": True,
        "database": "none",
    },
    "phases": {name: {"enabled": name in PHASES} for name in ("examples", "coverage", "fuzzing", "stateful")},
    # Rules that no schema says, such as what a good password is, refuse what the document allows.
    "checks": {"positive_data_acceptance": {"enabled": False}},
}
CONFIG["phases"]["coverage"]["unexpected-methods"] = ["options", "put"]
TOLERATED = {
    # An empty field of a form is one that was not filled in.
    ("POST /v1/auth/token", "Schema-violating request accepted"),
    # ``invitations`` stands where the id of a user may stand, and a user can be deleted.
    ("POST /v1/users/invitations", "Allow header mismatch"),
}
# What has no answer below 300 here: without a provider of sign-on or a job's own key, and for what is in use.
UNREACHED = {
    "begin_sso_login",
    "delete_dataset",
    "delete_dataset_version",
    "delete_model",
    "delete_project",
    "delete_training_job",
    "finish_sso_login",
    "get_checkpoint",
    "get_secret_value",
    "promote_revision",
    "put_checkpoint",
    "report_progress",
    "report_result",
    "rollback_deployment",
    "scale_deployment",
    "set_deployment_traffic",
}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Limits that a fuzzer does not reach."""
    limits = LimitSettings(principal_per_minute=10**9, address_per_minute=10**9)
    auth = AuthSettings(access_token_ttl_s=86_400, login_failures_per_account=10**9, login_failures_per_address=10**9)
    return settings.model_copy(update={"limits": limits, "auth": auth})


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Let thousands of requests write no line each."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.fixture
def belongings(client: TestClient, resources: Resources) -> Belongings:
    """One of everything, of an administrator."""
    alice = make_tenant(client, "alice")
    with resources.session() as session:
        session.get_one(User, alice.user_id).role = "admin"
    return make_everything(alice, resources, "alice")


class Snapshot:
    """All rows of the database, to be put back."""

    def __init__(self, owner: Engine) -> None:
        self._owner = owner
        with owner.connect() as connection:
            tables = SQLModel.metadata.sorted_tables
            self._rows = {
                table: [dict(row) for row in connection.execute(table.select()).mappings()] for table in tables
            }

    def restore(self) -> None:
        """Put back the rows as they were, without triggers."""
        with self._owner.begin() as connection:
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            for table, rows in self._rows.items():
                connection.execute(table.delete())
                if rows:
                    connection.execute(table.insert(), rows)


class Few:
    """Admits of all the ways to put the wrong kind of value into one place the first ones."""

    def __init__(self) -> None:
        self._seen: Counter[tuple[Any, ...]] = Counter()

    def admits(self, case: Any) -> bool:
        """Tell whether a case is to be sent."""
        about = case.meta.phase.data if case.meta is not None else None
        scenario = getattr(about, "scenario", None)
        if scenario is None:
            return True
        key = (case.operation.label, scenario, about.parameter_location, about.parameter, about.location)
        self._seen[key] += 1
        return self._seen[key] <= ALIKE


@pytest.fixture
def document(app: FastAPI, belongings: Belongings, owner: Engine) -> BaseSchema:
    """The application's own description, with examples of what there is."""
    login = {"Authorization": f"Bearer {belongings.tenant.tokens['access_token']}"}
    config = SchemathesisConfig.from_dict(CONFIG | {"headers": login})
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, config=config)
    for path, operations in schema.raw_schema["paths"].items():
        for operation in operations.values():
            _add_examples(path, operation, belongings)
    snapshot, few = Snapshot(owner), Few()

    @schema.hook
    def after_call(context: Any, case: Any, response: Any) -> None:
        if case.operation.method != "get" and response.status_code < 300:
            snapshot.restore()

    @schema.hook
    def filter_case(context: Any, case: Any) -> bool:
        return IS_LONG or few.admits(case)

    @schema.hook
    def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
        return (case.operation.label, failure.title) not in TOLERATED

    chosen = schema.include(path_regex=os.environ.get("FUZZ_PATH", "."))
    # It lasts as long as its caller asks.
    return chosen.exclude(operation_id="stream_deployment_events")


def _add_examples(path: str, operation: dict[str, Any], belongings: Belongings) -> None:
    valid = body_of(operation["operationId"], belongings.values)
    nouns = nouns_of(path)
    for parameter in operation.get("parameters", ()):
        known = valid.get("params", {}).get(parameter["name"])
        if parameter["in"] == "path":
            known = belongings.values[nouns[f"{{{parameter['name']}}}"]]
        if known is not None:
            parameter["example"] = known
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        body = _credentials(belongings).get(operation["operationId"]) or valid.get("json")
        if body is not None:
            content["example"] = body
        elif media_type == "application/octet-stream":
            content["example"] = valid["content"]


def _credentials(belongings: Belongings) -> dict[str, dict[str, str]]:
    """Return bodies that open and change sessions, which the valid ones of others must not."""
    email, tokens = "alice@example.com", belongings.tenant.tokens
    return {
        "register": {"email": "new@example.com", "name": "New", "password": PASSWORD},
        "login": {"email": email, "password": PASSWORD},
        "login_by_form": {"username": email, "password": PASSWORD},
        "change_password": {"current_password": PASSWORD, "new_password": f"{PASSWORD} too"},
        "refresh_token": {"refresh_token": tokens["refresh_token"]},
        "validate_token": {"token": tokens["access_token"]},
    }


def test_every_operation_answers_as_described(document: BaseSchema) -> None:
    failures: dict[str, str] = {}
    statuses: Counter[tuple[str, int]] = Counter()
    for event in from_schema(document).execute():
        assert not isinstance(event, events.FatalError | events.NonFatalError), event
        if isinstance(event, events.ScenarioFinished):
            failures |= _failures(event.recorder)
            statuses.update(_statuses(event.recorder))
    assert not failures, "\n\n".join(failures.values())
    reached = {name for name, status in statuses if status < 300}
    unreached = {name for name, _ in statuses} - reached
    assert not unreached - UNREACHED, " ".join(sorted(unreached - UNREACHED))


def _failures(recorder: Any) -> Iterator[tuple[str, str]]:
    """Yield each kind of failure once for an operation, with a command that shows it."""
    for id_, checks in recorder.checks.items():
        case = recorder.cases[id_].value
        for check in checks:
            if check.failure_info is not None:
                failure = check.failure_info.failure
                what = f"{case.operation.label}: {failure.title}"
                yield what, f"{what}\n{failure.message}\n{case.as_curl_command()}"


def _statuses(recorder: Any) -> Iterator[tuple[str, int]]:
    for id_, interaction in recorder.interactions.items():
        if interaction.response is not None and id_ in recorder.cases:
            operation = recorder.cases[id_].value.operation
            yield operation.definition.raw["operationId"], interaction.response.status_code
