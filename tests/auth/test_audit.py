"""Every change and every refusal leaves a row that says who, how, from where and what."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import Engine, text, update
from sqlmodel import SQLModel, col, select
from starlette.testclient import WebSocketDenialResponse

from factories import PASSWORD, Tenant, make_tenant
from raymill.auth.audit import Refusal
from raymill.auth.models import AuditEntry, User
from raymill.compute.embedded.external import audit_weakness
from raymill.gateway.metrics import RequestMetrics
from raymill.gateway.refusal_tally import OTHERS, PER_ADDRESS, PER_MINUTE, RefusalTally
from raymill.gateway.refusals import Refusals
from raymill.kernel.acting import Acting, on_behalf
from raymill.kernel.audited import HIDDEN, LEFT_OUT, QUIET
from raymill.kernel.clock import utc_now
from raymill.kernel.db import Database, unless_refused
from raymill.kernel.errors import Conflict
from raymill.kernel.ids import new_id
from raymill.kernel.resources import Resources
from raymill.kernel.settings import DatabaseSettings, Settings

pytestmark = pytest.mark.integration

Rows = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def rows(app: FastAPI, admin: Tenant) -> Rows:
    """Return the rows of the log that fit, newest first, refusals included."""

    def read(**filters: Any) -> list[dict[str, Any]]:
        app.state.refusals.close()
        answer = admin.get("/audit", params={"limit": 200, **filters})
        assert answer.status_code == 200, answer.text
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    return read


def test_a_change_says_who_how_from_where_and_what(rows: Rows, alice: Tenant) -> None:
    answer = alice.patch(
        f"/projects/{alice.project_id}", json={"description": "better"}, headers={"X-Request-ID": "req_mine"}
    )
    assert answer.status_code == 200, answer.text
    [row] = rows(request_id="req_mine")
    session = alice.get("/auth/whoami").json()
    assert row.pop("id").startswith("aud_")
    assert row.pop("created_at")
    assert row.pop("credential_id").startswith("ses_")
    assert row == {
        "outcome": "done",
        "action": "update_project",
        "change": "changed",
        "actor_id": session["user_id"],
        "actor_name": "alice@example.com",
        "credential": "session",
        "address": "testclient",
        "request_id": "req_mine",
        "object_type": "project",
        "object_id": alice.project_id,
        "object_name": "alice-project",
        "project_id": alice.project_id,
        "project_name": "alice-project",
        "before": {"description": ""},
        "after": {"description": "better"},
        "status": None,
        "message": None,
        "repeats": 1,
    }


def test_a_change_by_a_key_names_the_key(rows: Rows, alice: Tenant, client: TestClient) -> None:
    made = alice.post("/api-keys", json={"name": "ci", "project_id": alice.project_id, "permissions": ["*"]}).json()
    body = {"project_id": alice.project_id, "name": "table"}
    assert client.post("/api/v1/datasets", json=body, headers={"X-API-Key": made["key"]}).status_code == 201
    [row] = rows(action="create_dataset")
    assert (row["actor_id"], row["credential"], row["credential_id"]) == (alice.user_id, "key", made["id"])


def test_secrets_and_hashes_are_not_in_the_log(rows: Rows, alice: Tenant) -> None:
    key = alice.post("/api-keys", json={"name": "ci", "project_id": alice.project_id, "permissions": ["*"]}).json()
    alice.put(f"/projects/{alice.project_id}/secrets/token", json={"value": "swordfish"})
    change = {"current_password": PASSWORD, "new_password": "another good one"}
    assert alice.post("/auth/password", json=change).status_code == 204
    [made] = rows(object_id=key["id"], action="create_api_key")
    assert made["after"]["secret_sha256"] == "[redacted]"
    [secret] = rows(object_type="secret")
    assert (secret["after"]["sealed"], secret["after"]["wrapped_key"]) == ("[redacted]", "[redacted]")
    [password] = rows(action="change_password", object_type="user_account")
    assert password["before"] == password["after"] == {"password_hash": "[redacted]"}


def test_no_column_of_a_secret_is_shown() -> None:
    words = ("secret_sha", "password", "sealed", "wrapped", "token")
    for table in SQLModel.metadata.sorted_tables:
        secret = {column.name for column in table.columns if any(word in column.name for word in words)}
        assert table.name in LEFT_OUT or secret <= set(HIDDEN.get(table.name, ())), table.name


def test_variables_of_a_job_and_long_values_are_not_in_the_log(
    owner: Engine, rows: Rows, alice: Tenant, resources: Resources
) -> None:
    shown = text("SELECT audit_shown('config', cast(:value AS jsonb), '{}')")
    with owner.connect() as connection:
        job = {"entrypoint": "python x.py", "runtime_env": {"pip": ["a"], "env_vars": {"TOKEN": "swordfish"}}}
        assert connection.execute(shown, {"value": json.dumps(job)}).scalar_one() == {
            "entrypoint": "python x.py",
            "runtime_env": {"pip": ["a"], "env_vars": "[redacted]"},
        }
        long = connection.execute(shown, {"value": json.dumps("x" * 5000)}).scalar_one()
    assert long == {"omitted_characters": 5002}


def test_bulk_statements_leave_their_rows(rows: Rows, alice: Tenant) -> None:
    assert alice.post("/auth/logout-all").status_code == 204
    [ended] = rows(action="logout_all")
    assert (ended["object_type"], ended["object_name"], ended["change"]) == (
        "auth_session",
        "alice@example.com",
        "changed",
    )
    assert set(ended["after"]) == {"revoked_at"}


def test_the_log_outlives_what_it_tells_of(rows: Rows, alice: Tenant) -> None:
    assert alice.delete(f"/projects/{alice.project_id}").status_code == 204
    gone = rows(action="delete_project", project_id=alice.project_id)
    assert {row["object_type"] for row in gone} == {"project", "project_member"}
    assert {(row["change"], row["project_name"], row["actor_name"]) for row in gone} == {
        ("deleted", "alice-project", "alice@example.com")
    }
    assert rows(action="create_project", object_id=alice.project_id)[0]["project_name"] == "alice-project"


def test_what_nobody_asked_for_is_the_systems(rows: Rows, alice: Tenant, resources: Resources) -> None:
    with resources.session() as session:
        session.execute(update(User).where(col(User.id) == alice.user_id).values(name="Alicia"))
    [row] = rows(object_id=alice.user_id, actor_id="system:raymill", outcome="done")[:1]
    assert (row["before"], row["after"], row["request_id"]) == ({"name": "Alice"}, {"name": "Alicia"}, None)


def test_a_change_after_a_refused_savepoint_still_has_its_author(alice: Tenant, resources: Resources) -> None:
    acting = Acting(request_id="req_savepoint", actor_id=alice.user_id)
    with on_behalf(acting), resources.session() as session:
        with pytest.raises(Conflict), unless_refused(session, Conflict("twice")):
            session.add(User(id=new_id("usr"), email="alice@example.com", name="Twin", role="guest"))
        session.execute(update(User).where(col(User.id) == alice.user_id).values(name="Alicia"))
    with resources.session() as session:
        entry = session.exec(select(AuditEntry).where(AuditEntry.request_id == "req_savepoint")).one()
        assert (entry.actor_id, entry.after) == (alice.user_id, {"name": "Alicia"})


def test_what_changes_all_the_time_leaves_no_row(rows: Rows, alice: Tenant, resources: Resources) -> None:
    with resources.session() as session:
        session.execute(update(User).where(col(User.id) == alice.user_id).values(last_login_at=utc_now()))
    assert rows(object_id=alice.user_id, actor_id="system:raymill")[0]["change"] == "created"


def test_every_table_is_followed_or_left_out_for_a_reason(owner: Engine) -> None:
    followed = text("SELECT relname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid WHERE tgname = 'AUDIT'")
    with owner.connect() as connection:
        found = set(connection.execute(followed).scalars())
    assert found == {table.name for table in SQLModel.metadata.sorted_tables} - LEFT_OUT.keys()
    assert LEFT_OUT.keys() <= {table.name for table in SQLModel.metadata.sorted_tables} | {"alembic_version"}
    for columns in (QUIET, HIDDEN):
        for name, named in columns.items():
            assert set(named) <= set(SQLModel.metadata.tables[name].columns.keys()), name


def test_refusals_say_who_why_and_where(rows: Rows, client: TestClient, alice: Tenant) -> None:
    carol = make_tenant(client, "carol")
    assert client.get("/api/v1/projects").status_code == 401
    assert alice.get("/users").status_code == 403
    assert carol.patch(f"/projects/{alice.project_id}", json={"description": "mine"}).status_code == 404
    assert carol.post("/projects", json={"name": "alice-project"}).status_code == 409
    assert carol.get("/projects/prj_none").status_code == 404
    found = {
        (row["status"], row["actor_name"] or row["actor_id"], row["action"], row["object_id"], row["project_name"])
        for row in rows(outcome="refused")
    }
    assert found == {
        (401, "anonymous", "list_projects", None, None),
        (403, "alice@example.com", "list_users", None, None),
        (404, "carol@example.com", "update_project", alice.project_id, "alice-project"),
        (409, "carol@example.com", "create_project", None, None),
    }
    [denied] = rows(outcome="refused", actor_id=alice.user_id)
    assert "user:admin" in denied["message"]
    assert denied["address"] == "testclient"


def test_a_failed_login_names_the_account(rows: Rows, client: TestClient, alice: Tenant) -> None:
    wrong = {"email": "alice@example.com", "password": "wrong"}
    assert client.post("/api/v1/auth/login", json=wrong).status_code == 401
    [row] = rows(object_id=alice.user_id, outcome="refused")
    assert (row["actor_id"], row["object_name"], row["action"]) == ("anonymous", "alice@example.com", "login")


def test_a_login_is_its_owners(rows: Rows, client: TestClient, alice: Tenant) -> None:
    right = {"email": "alice@example.com", "password": PASSWORD}
    assert client.post("/api/v1/auth/login", json=right).status_code == 200
    [row] = rows(action="login")
    assert (row["object_type"], row["change"], row["actor_id"]) == ("auth_session", "created", alice.user_id)
    assert row["object_id"] == row["credential_id"]


def test_a_dead_refresh_token_writes_a_row(rows: Rows, client: TestClient, alice: Tenant) -> None:
    body = {"refresh_token": alice.tokens["refresh_token"]}
    assert [client.post("/api/v1/auth/refresh", json=body).status_code for _ in range(2)] == [200, 401]
    [reused] = rows(action="refresh_token_reused")
    assert (reused["outcome"], reused["actor_name"], reused["object_type"]) == (
        "refused",
        "alice@example.com",
        "auth_session",
    )
    [ended] = rows(object_id=reused["object_id"], action="refresh_token", outcome="done")
    assert ended["request_id"] == reused["request_id"]


def test_what_postgresql_cannot_hold_is_left_out(rows: Rows, client: TestClient) -> None:
    assert client.delete("/api/v1/projects/prj_%00" + "x" * 1000).status_code == 401
    [row] = rows(outcome="refused")
    assert row["object_id"] == "prj_" + "x" * 496


def test_a_flood_fills_no_disk(rows: Rows, client: TestClient) -> None:
    for _ in range(PER_ADDRESS + 5):
        assert client.get("/api/v1/projects").status_code == 401
    found = rows(outcome="refused")
    assert len(found) == PER_ADDRESS + 1
    [many] = [row for row in found if row["repeats"] > 1]
    assert (many["repeats"], many["address"], many["message"]) == (5, "testclient", "and 5 more within a minute")


def test_each_minute_has_room_for_new_refusals() -> None:
    now = 0.0
    tally = RefusalTally(lambda: now)
    assert [tally.admits("a") for _ in range(PER_ADDRESS + 3)] == [True] * PER_ADDRESS + [False] * 3
    assert sum(tally.admits(f"b{n}") for n in range(2 * PER_MINUTE)) == PER_MINUTE - PER_ADDRESS
    assert tally.close_minute() == {}
    now = 60.0
    assert tally.close_minute() == {"a": 3, OTHERS: PER_MINUTE + PER_ADDRESS}
    assert tally.admits("a")
    assert tally.close_minute(early=True) == {}


def test_without_a_database_a_refusal_still_leaves_and_its_loss_is_counted() -> None:
    gone = Database(DatabaseSettings(url=SecretStr("postgresql://nobody@127.0.0.1:1/none"), connect_timeout_s=1))
    metrics = RequestMetrics()
    refusals = Refusals(gone, metrics)
    for _ in range(3):
        refusals.note(Refusal(address="10.0.0.1", message="no", actor_id="anonymous"))
    refusals.close()
    gone.close()
    assert b"raymill_api_refusals_not_audited_total 3.0" in metrics.exposition()


def test_owners_see_their_projects_and_nobody_elses(rows: Rows, client: TestClient, alice: Tenant) -> None:
    carol = make_tenant(client, "carol")
    alice.put(f"/projects/{alice.project_id}/members/carol@example.com", json={"role": "developer"})
    for tenant in (alice, carol):
        seen = tenant.get("/audit", params={"limit": 200}).json()["items"]
        assert {row["project_id"] for row in seen} == {tenant.project_id}
    assert carol.get("/audit", params={"project_id": alice.project_id}).json()["items"] == []
    key = {"name": "ci", "project_id": alice.project_id, "permissions": ["dataset:read"]}
    secret = alice.post("/api-keys", json=key).json()["key"]
    assert client.get("/api/v1/audit", headers={"X-API-Key": secret}).json()["items"] == []
    assert {row["project_id"] for row in rows()} >= {alice.project_id, carol.project_id, None}


def test_owners_read_no_names_of_strangers_who_were_refused(rows: Rows, client: TestClient, alice: Tenant) -> None:
    erin, carol, dave = (make_tenant(client, name) for name in ("erin", "carol", "dave"))
    project = f"/projects/{alice.project_id}"
    assert alice.put(f"{project}/members/{erin.user_id}", json={"role": "viewer"}).is_success
    team = alice.post("/teams", json={"name": "vision"}).json()["id"]
    assert alice.put(f"/teams/{team}/members/{dave.user_id}", json={"role": "member"}).is_success
    assert alice.put(f"{project}/teams/{team}", json={"role": "viewer"}).is_success
    for tenant in (erin, carol, dave):
        assert tenant.delete(project).status_code in (403, 404)
    everything = {row["actor_id"]: row["actor_name"] for row in rows(outcome="refused")}
    assert everything[carol.user_id] == "carol@example.com"
    seen = alice.get("/audit", params={"outcome": "refused"}).json()["items"]
    assert {row["actor_id"]: row["actor_name"] for row in seen} == {
        erin.user_id: "erin@example.com",
        carol.user_id: None,
        dave.user_id: "dave@example.com",
    }


def test_a_refused_websocket_has_a_row(rows: Rows, client: TestClient) -> None:
    with pytest.raises(WebSocketDenialResponse), client.websocket_connect("/api/v1/jobs/api/jobs/one/logs/tail"):
        pass
    [row] = rows(outcome="refused")
    assert (row["status"], row["actor_id"], row["action"]) == (401, "anonymous", "tail_ray_job_logs")


def test_the_log_is_read_by_page_and_by_time(rows: Rows, admin: Tenant, alice: Tenant) -> None:
    for name in ("first", "second", "third"):
        assert alice.post("/datasets", json={"project_id": alice.project_id, "name": name}).status_code == 201
    everything = rows(action="create_dataset")
    assert [row["object_name"] for row in everything] == ["third", "second", "first"]
    page = admin.get("/audit", params={"action": "create_dataset", "limit": 2}).json()
    rest = admin.get("/audit", params={"action": "create_dataset", "cursor": page["next_cursor"]}).json()
    assert [*page["items"], *rest["items"]] == everything
    begin = datetime.fromisoformat(everything[1]["created_at"])
    assert rows(action="create_dataset", since=begin.isoformat()) == everything[:2]
    later = (begin + timedelta(milliseconds=1)).isoformat()
    assert rows(action="create_dataset", until=later)[-2:] == everything[1:]


ATTEMPTS = {
    "UPDATE": "UPDATE audit SET actor_id = 'nobody'",
    "DELETE": "DELETE FROM audit",
    "TRUNCATE": "TRUNCATE audit",
    "ALTER": "ALTER TABLE audit DROP COLUMN message",
    "DROP": "DROP TABLE audit CASCADE",
    "RENAME": "ALTER TABLE audit RENAME TO other",
    "a trigger on it": "CREATE TRIGGER t BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION audit_change()",
    "a rule on it": "CREATE RULE r AS ON INSERT TO audit DO INSTEAD NOTHING",
    "a policy on it": "ALTER TABLE audit ENABLE ROW LEVEL SECURITY",
    "its trigger off": "ALTER TABLE audit DISABLE TRIGGER ALL",
    "a table's trigger off": "ALTER TABLE project DISABLE TRIGGER ALL",
    "a table's trigger dropped": 'DROP TRIGGER "AUDIT" ON project',
    "all triggers off": "SET session_replication_role = replica",
    "another function": "CREATE OR REPLACE FUNCTION audit_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'",
    "another schema": "CREATE SCHEMA mine",
    "a table in the schema": "CREATE TABLE mine (id text)",
    "the owner's role": "SET ROLE raymill",
    "the owner's session": "SET SESSION AUTHORIZATION raymill",
    "the owner's rights": "GRANT raymill TO CURRENT_USER",
    "rights of its own": "ALTER ROLE CURRENT_USER SUPERUSER",
    "its owner": "ALTER TABLE audit OWNER TO CURRENT_USER",
    "all tables": "TRUNCATE project CASCADE",
    "the schema": "DROP SCHEMA public CASCADE",
    "the version": "UPDATE alembic_version SET version_num = ''",
    "how long it is kept": "CREATE FUNCTION audit_forget(integer) RETURNS bigint LANGUAGE sql AS 'SELECT 1'",
    "the mark of its rules": "COMMENT ON FUNCTION audit_change() IS 'mine'",
    "a lock on it": "LOCK TABLE audit IN ACCESS EXCLUSIVE MODE",
}


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_the_applications_role_cannot_change_the_log(migrated_url: str, attempt: str) -> None:
    with psycopg.connect(migrated_url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(ATTEMPTS[attempt])


def test_nobody_dates_a_row_back_or_hides_behind_a_temporary_table(alice: Tenant, migrated_url: str) -> None:
    with psycopg.connect(migrated_url, autocommit=True) as connection:
        connection.execute("CREATE TEMP TABLE audit (LIKE public.audit)")
        connection.execute("UPDATE project SET description = 'silently' WHERE id = %s", [alice.project_id])
        connection.execute(
            "INSERT INTO public.audit (id, created_at, outcome, actor_id, repeats)"
            " VALUES ('aud_1', '2001-01-01', 'done', 'old', 1)"
        )
        query = (
            "SELECT created_at > now() - interval '1 minute', id > 'aud_01m' FROM public.audit WHERE actor_id = 'old'"
        )
        assert connection.execute(query).fetchone() == (True, True)
        seen = connection.execute("SELECT after FROM public.audit ORDER BY id DESC OFFSET 1 LIMIT 1").fetchone()
    assert seen == ({"description": "silently"},)


def test_a_role_that_could_change_the_log_is_told(migrated_url: str, database_url: str) -> None:
    closed, weak = (Settings(database=DatabaseSettings(url=SecretStr(url))) for url in (migrated_url, database_url))
    assert audit_weakness(closed) == ""
    assert "not append-only: raymill may change it" in audit_weakness(weak)
