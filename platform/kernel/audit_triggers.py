"""The audit log as PostgreSQL keeps it: a trigger on every table writes what changed, in the change's own transaction.

So a change made by a bulk statement, by a cascade or by hand in ``psql`` leaves its row too, and the role of the
application, which owns no table, can neither switch the triggers off nor change what they wrote. How long rows are kept
is written down by the owner, too: the application may call what removes those that are older, and no others.
"""

import json
from hashlib import sha256

from sqlalchemy import Connection, text

from .audited import HIDDEN, LEFT_OUT, QUIET, TABLE


def _letters(number: str, *, bits: int) -> str:
    """Return the SQL that writes a number in Crockford's base 32."""
    alphabet = "'0123456789abcdefghjkmnpqrstvwxyz'"
    shifts = range(bits - 5, -1, -5)
    return " || ".join(f"substr({alphabet}, (({number} >> {shift}) & 31)::int + 1, 1)" for shift in shifts)


# The id is a TypeID: a UUIDv7 (RFC 9562, section 5.7) whose rand_a holds the microseconds. It is written 60, 10 and 60
# bits at a time, as a loop over its letters would take most of what a row costs. Id and moment are made here whatever
# is inserted, so that nobody can date a row back.
_COMPLETE = """
CREATE OR REPLACE FUNCTION {schema}.audit_complete() RETURNS trigger LANGUAGE plpgsql
SET search_path = {schema}, pg_temp AS $body$
DECLARE
  us bigint := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
  fraction bigint := (us % 1000) * 4;
  random bit(64) := ('x' || right(gen_random_uuid()::text, 12) || left(gen_random_uuid()::text, 4))::bit(64);
  high bigint := ((us / 1000) << 10) | (7 << 6) | (fraction >> 6);
  middle bigint := ((fraction & 63) << 4) | (2 << 2) | (random::bit(2)::int);
  low bigint := (random << 4)::bit(60)::bigint;
BEGIN
  NEW.id := 'aud_' || {high} || {middle} || {low};
  NEW.created_at := to_timestamp(us / 1000000.0);
  RETURN NEW;
END
$body$
"""

# What the application writes itself carries ids alone.
_NAMED = """
CREATE OR REPLACE FUNCTION {schema}.audit_named() RETURNS trigger LANGUAGE plpgsql
SET search_path = {schema}, pg_temp AS $body$
BEGIN
  NEW.actor_name := (SELECT email FROM user_account WHERE user_account.id = NEW.actor_id);
  NEW.project_name := (SELECT name FROM project WHERE project.id = NEW.project_id);
  RETURN NEW;
END
$body$
"""

# A value too long for a log stands there by its length.
_SHOWN = """
CREATE OR REPLACE FUNCTION {schema}.audit_shown(key text, value jsonb, hidden text[]) RETURNS jsonb
LANGUAGE sql STABLE AS $body$
  SELECT CASE
    WHEN value = 'null' THEN value
    WHEN key = ANY (hidden) THEN '"[redacted]"'
    WHEN length(value::text) > 4000 THEN jsonb_build_object('omitted_characters', length(value::text))
    WHEN value -> 'runtime_env' ? 'env_vars' THEN jsonb_set(value, '{{runtime_env,env_vars}}', '"[redacted]"')
    ELSE value
  END
$body$
"""

_CHANGE = """
CREATE OR REPLACE FUNCTION {schema}.audit_change() RETURNS trigger LANGUAGE plpgsql
SET search_path = {schema}, pg_temp AS $body$
DECLARE
  quiet text[] := string_to_array(TG_ARGV[0], ',');
  hidden text[] := string_to_array(TG_ARGV[1], ',');
  old_row jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
  new_row jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
  here jsonb := coalesce(new_row, old_row);
  acting jsonb := nullif(current_setting('raymill.acting', true), '')::jsonb;
  project text := here ->> CASE TG_TABLE_NAME WHEN 'project' THEN 'id' ELSE 'project_id' END;
  before_change jsonb;
  after_change jsonb;
BEGIN
  IF TG_OP = 'UPDATE' THEN
    SELECT jsonb_object_agg(o.key, audit_shown(o.key, o.value, hidden)),
           jsonb_object_agg(n.key, audit_shown(n.key, n.value, hidden))
      INTO before_change, after_change
      FROM jsonb_each(old_row) o JOIN jsonb_each(new_row) n ON n.key = o.key
      WHERE n.value IS DISTINCT FROM o.value AND o.key <> ALL (quiet);
    IF after_change IS NULL THEN
      RETURN NULL;
    END IF;
  ELSE
    SELECT jsonb_object_agg(e.key, audit_shown(e.key, e.value, hidden)) INTO after_change FROM jsonb_each(here) e;
    IF TG_OP = 'DELETE' THEN
      before_change := after_change;
      after_change := NULL;
    END IF;
  END IF;
  INSERT INTO audit (
    id, created_at, outcome, action, change, actor_id, credential, credential_id, address, request_id,
    actor_name, object_type, object_id, object_name, project_id, project_name, before, after, repeats
  ) VALUES (
    '', now(), 'done', acting ->> 'action',
    CASE TG_OP WHEN 'INSERT' THEN 'created' WHEN 'UPDATE' THEN 'changed' ELSE 'deleted' END,
    CASE WHEN acting IS NULL OR acting ? 'is_system' THEN 'system:' || current_setting('application_name')
         ELSE coalesce(acting ->> 'actor_id', 'anonymous') END,
    acting ->> 'credential', acting ->> 'credential_id', acting ->> 'address', acting ->> 'request_id',
    (SELECT email FROM user_account WHERE user_account.id = acting ->> 'actor_id'),
    TG_TABLE_NAME, coalesce(here ->> 'id', here ->> 'name'),
    coalesce(here ->> 'name', here ->> 'email', here ->> 'path',
             (SELECT email FROM user_account WHERE user_account.id = here ->> 'user_id')),
    project,
    -- Of a project that is gone with what it held, the log itself remembers the name.
    coalesce(
      CASE TG_TABLE_NAME WHEN 'project' THEN here ->> 'name' ELSE (SELECT name FROM project p WHERE p.id = project) END,
      (SELECT a.project_name FROM audit a WHERE a.project_id = project ORDER BY a.id DESC LIMIT 1)
    ),
    before_change, after_change, 1
  );
  RETURN NULL;
END
$body$
"""

# Before the cascades of foreign keys, which are triggers named RI_…: triggers run in the order of their names.
_FOLLOW = """
CREATE OR REPLACE TRIGGER "AUDIT" AFTER INSERT OR UPDATE OR DELETE ON {schema}.{table}
FOR EACH ROW EXECUTE FUNCTION {schema}.audit_change('{quiet}', '{hidden}')
"""
_LEAVE = 'DROP TRIGGER IF EXISTS "AUDIT" ON {schema}.{table}'
_COMPLETED = """
CREATE OR REPLACE TRIGGER complete BEFORE INSERT ON {schema}.audit
FOR EACH ROW EXECUTE FUNCTION {schema}.audit_complete();
CREATE OR REPLACE TRIGGER named BEFORE INSERT ON {schema}.audit
FOR EACH ROW WHEN (NEW.outcome = 'refused') EXECUTE FUNCTION {schema}.audit_named()
"""

# With the rights of the owner, on the database's clock, and for the days that stand here.
_FORGET = """
CREATE OR REPLACE FUNCTION {schema}.audit_forget(at_most integer) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $body$
  WITH oldest AS (SELECT id FROM audit ORDER BY id LIMIT at_most),
  gone AS (
    DELETE FROM audit USING oldest
    WHERE audit.id = oldest.id AND audit.created_at < now() - interval '{days} days' RETURNING 1
  )
  SELECT count(*) FROM gone
$body$;
REVOKE ALL ON FUNCTION {schema}.audit_forget(integer) FROM PUBLIC
"""
_KEEP = "DROP FUNCTION IF EXISTS {schema}.audit_forget(integer)"


def mark(keep_days: int | None) -> str:
    """Return what tells these rules from others; it stands beside them in the database."""
    rules = [_COMPLETE, _NAMED, _SHOWN, _CHANGE, _FOLLOW, _LEAVE, _COMPLETED, _FORGET, sorted(LEFT_OUT), QUIET, HIDDEN]
    return sha256(json.dumps([*rules, keep_days], sort_keys=True).encode()).hexdigest()[:32]


def install(connection: Connection, *, app_role: str | None, keep_days: int | None) -> None:
    """Put the triggers on every table, and give the application's role what it needs and no more.

    Args:
        connection: Logged in as the role that owns the tables.
        app_role: The role of the application; None where it is the owner, who cannot be kept from anything.
        keep_days: After how many days rows of the log may be removed; None: never.
    """
    quote = connection.dialect.identifier_preparer.quote
    schema = quote(connection.execute(text("SELECT current_schema()")).scalar_one())
    letters = {name: _letters(name, bits=10 if name == "middle" else 60) for name in ("high", "middle", "low")}
    for function in (_COMPLETE, _NAMED, _SHOWN, _CHANGE, _COMPLETED):
        _run(connection, function.format(schema=schema, **letters))
    for table in _tables(connection):
        statement = _LEAVE if table in LEFT_OUT else _FOLLOW
        names = {"quiet": ",".join(QUIET.get(table, ())), "hidden": ",".join(HIDDEN.get(table, ()))}
        _run(connection, statement.format(schema=schema, table=quote(table), **names))
    _run(connection, (_KEEP if keep_days is None else _FORGET).format(schema=schema, days=keep_days))
    if app_role is not None:
        _grant(connection, schema, quote(app_role))
        if keep_days is not None:
            _run(connection, f"GRANT EXECUTE ON FUNCTION {schema}.audit_forget(integer) TO {quote(app_role)}")
    _run(connection, f"COMMENT ON FUNCTION {schema}.audit_change() IS '{mark(keep_days)}'")


def _tables(connection: Connection) -> list[str]:
    found = text("SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY tablename")
    return list(connection.execute(found).scalars())


def _grant(connection: Connection, schema: str, role: str) -> None:
    for statement in (
        f"GRANT USAGE ON SCHEMA {schema} TO {role}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role}",
        f"REVOKE ALL ON {schema}.{TABLE} FROM {role}",
        f"GRANT SELECT, INSERT ON {schema}.{TABLE} TO {role}",
        f"REVOKE INSERT, UPDATE, DELETE ON {schema}.alembic_version FROM {role}",
    ):
        _run(connection, statement)


def _run(connection: Connection, statement: str) -> None:
    # Without parameters the driver leaves per cent signs alone.
    connection.exec_driver_sql(statement, execution_options={"no_parameters": True})


__all__ = ["install", "mark"]
