"""What the audit log holds: every change of every table, but for what these lists name."""

TABLE = "audit"

# Tables whose changes are no changes that anybody asked for, or that follow from one that is written.
LEFT_OUT = {
    TABLE: "the log itself",
    "alembic_version": "the version of the schema",
    "outbox": "events, each of which follows from a change",
    "idempotency_record": "what a request was answered",
    "lease": "the right of a controller to act, renewed every few seconds",
    "serve_declaration": "what was declared to Ray Serve, made from apps.yaml",
    "publication": "documents compiled from the other tables",
    "refresh_token": "links of a session's chain; a second use of one has a row of its own",
    "quota_claim": "what a job, a deployment or a file takes, which have rows of their own",
    "pin": "follows from a deployment or job",
    "lineage_edge": "follows from a version, job or deployment",
    "run_metric": "measured values, which are only added",
    "job_log": "what a job printed",
    "job_checkpoint": "the newest state of a running job",
}

# Columns whose change alone is not worth a row.
QUIET = {
    "user_account": ("last_login_at",),
    "api_key": ("last_used_at",),
    "project": ("updated_at",),
    "team": ("updated_at",),
    "dataset": ("updated_at", "last_version"),
    "registered_model": ("updated_at", "last_version"),
    "deployment": ("updated_at", "replicas", "published_version"),
    "revision": ("app_status", "app_message", "app_replicas"),
    "training_job": ("progress", "metrics", "message", "cluster_id", "attempt", "log_start", "submitted_at"),
}

# Columns whose values no log may hold.
HIDDEN = {
    "user_account": ("password_hash",),
    "invitation": ("secret_sha256",),
    "api_key": ("secret_sha256",),
    "secret": ("wrapped_key", "sealed"),
    "model_version": ("example",),
    "revision": ("example",),
}
