"""The one nested settings object, read once at the edge of each process and passed down.

Order of precedence: environment (``RAYMILL_SECTION__FIELD``), then the JSON file named by ``RAYMILL_CONFIG_FILE``
(else ``$RAYMILL_HOME/config.json`` where that exists), then the defaults below. Secrets belong in the file, mode 0600:
Ray hands the environment of ``ray start`` to every process of the cluster.
"""

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    JsonConfigSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)


class DatabaseSettings(BaseModel):
    """PostgreSQL."""

    url: SecretStr | None = Field(None, description="PostgreSQL URL; unset means the embedded server")
    admin_url: SecretStr | None = Field(
        None, description="URL of the role that owns the tables, for migrations alone; unset means the same role"
    )
    pool_size: int = Field(5, ge=1, description="Connections that one process keeps open")
    max_overflow: int = Field(10, ge=0, description="Connections that one process may add under load")
    connect_timeout_s: float = Field(1.5, gt=0, description="Seconds to wait for a new connection")
    silence_s: float = Field(1.0, gt=0, description="Seconds without an answer after which PostgreSQL counts as away")

    @property
    def as_owner(self) -> "DatabaseSettings":
        """The same database by the role that owns the tables."""
        return self.model_copy(update={"url": self.admin_url}) if self.admin_url else self

    @property
    def without_owner(self) -> "DatabaseSettings":
        """The same database for processes that change no tables' shape."""
        return self.model_copy(update={"admin_url": None})


class RedisSettings(BaseModel):
    """Valkey or Redis."""

    url: SecretStr | None = Field(None, description="Valkey or Redis URL; unset means the embedded server")
    timeout_s: float = Field(1.0, gt=0, description="Seconds to wait for a connection or an answer")


class StorageSettings(BaseModel):
    """The object store."""

    url: str | None = Field(None, description="fsspec URL of the object store; unset means a folder under home")
    options: dict[str, Any] = Field(
        default_factory=dict, repr=False, description="Keyword options for the fsspec filesystem, keys among them"
    )


class HttpSettings(BaseModel):
    """The public door."""

    host: str = Field("127.0.0.1", description="Address that HAProxy or Ray Serve's proxy binds")
    port: int = Field(8000, description="Port of the public door")
    grpc_port: int = Field(9000, description="Port of the gRPC door")
    public_url: str | None = Field(None, description="URL under which users reach the door; unset: host and port")
    jobs_url: str | None = Field(
        None, description="URL under which jobs reach the door; unset: public_url, else the head's address"
    )
    proxy: Literal["haproxy", "python"] = Field("haproxy", description="Which proxy Ray Serve runs")
    stats_port: int = Field(8404, description="HAProxy statistics, loopback only")
    fallback_port: int = Field(8500, description="Ray Serve's fallback HTTP proxy, loopback only")
    fallback_grpc_port: int = Field(9500, description="Port of Ray Serve's fallback gRPC proxy")
    metrics_port: int = Field(9101, description="HAProxy metrics, loopback only")
    trusted_proxies: tuple[str, ...] = Field(
        (), description="Networks (CIDR) of load balancers whose X-Forwarded-For is believed"
    )
    replica_ports: tuple[int, int] = Field((30000, 31000), description="HTTP port range of ingress replicas")
    replica_grpc_ports: tuple[int, int] = Field((40000, 41000), description="gRPC port range of ingress replicas")
    cors_origins: tuple[str, ...] = Field(
        (), description="Origins (scheme://host:port) whose pages may call /api and /v2 from a browser; none by default"
    )
    max_body_bytes: int = Field(64 * 2**20, gt=0, description="Largest body of a request that is not an upload")
    max_upload_bytes: int = Field(5 * 2**30, gt=0, description="Largest uploaded file")

    @property
    def base_url(self) -> str:
        """URL that answers and clients use, without a trailing slash."""
        return (self.public_url or f"http://{self.host}:{self.port}").rstrip("/")

    @property
    def local_url(self) -> str:
        """URL of the door as this machine reaches it, whatever users are told."""
        host = "127.0.0.1" if self.host in {"0.0.0.0", "::"} else self.host  # noqa: S104
        return f"http://{host}:{self.port}"


class RaySettings(BaseModel):
    """The Ray head that ``raymill up`` starts, or the cluster that it joins."""

    address: str | None = Field(None, description="GCS address of an existing cluster; unset means start one")
    dashboard_url: str | None = Field(
        None, description="Dashboard of that existing cluster; unset means the address's host and dashboard_port"
    )
    token: SecretStr | None = Field(None, description="Token of that existing cluster; unset means token_file")
    token_file: Path | None = Field(None, description="File with the Ray token; unset means ray/token under home")
    num_cpus: int | None = Field(None, description="CPUs offered to Ray; unset means all of the machine")
    object_store_bytes: int = Field(512 * 2**20, description="Shared memory of Ray's object store")
    gcs_port: int = Field(6380, description="Port of the Ray head's GCS (Ray's own default is Redis' port)")
    dashboard_port: int = Field(8265, description="Port of the Ray dashboard, loopback only")
    dashboard_agent_port: int = Field(52365, description="HTTP port of Ray's dashboard agent")
    client_port: int = Field(10001, description="Port of the Ray client server")
    worker_ports: tuple[int, int] = Field((20000, 29999), description="Port range of Ray workers")
    gcs_fault_tolerance: bool = Field(
        False, description="Keep Ray's own tables in a Valkey of their own, so that 'raymill up' revives a dead head"
    )


GlobalRoleName = Literal["admin", "developer", "viewer", "guest"]


class SsoProviderSettings(BaseModel):
    """One OpenID Connect provider, by which people sign on."""

    model_config = ConfigDict(extra="forbid")

    issuer: str = Field(description="Issuer URL, https unless on this machine; discovery lies below it")
    client_id: str = Field(min_length=1, description="Client that the provider knows the platform by")
    client_secret: SecretStr | None = Field(None, description="Its secret; none for a public client")
    title: str | None = Field(None, description="Name on the sign-on button; unset means the provider's key")
    scopes: tuple[str, ...] = Field(("openid", "email", "profile"), description="Scopes that are asked for")
    groups_claim: str = Field("groups", description="Claim that lists a person's groups")
    roles: dict[str, GlobalRoleName] = Field(
        default_factory=dict, description="Global role by group; the highest holds, and is set at each sign-on"
    )
    default_role: GlobalRoleName = Field(
        "developer",
        description="Global role without such a group: of a new account, and with roles also of one that signs on",
    )
    teams: dict[str, str] = Field(
        default_factory=dict, description="Team by group; joined and left at each sign-on as the groups say"
    )
    creates_accounts: bool = Field(True, description="Whether a person without an account gets one")
    redirect_url: str | None = Field(None, description="Where the provider sends people back; unset: our callback")
    timeout_s: float = Field(5.0, gt=0, description="Seconds within which a question to the provider has an answer")

    @field_validator("issuer")
    @classmethod
    def _is_safe(cls, issuer: str) -> str:
        parts = urlsplit(issuer)
        if parts.scheme != "https" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
            raise ValueError("an issuer is reached by https, unless it is on this machine")
        return issuer


class AuthSettings(BaseModel):
    """Identity."""

    issuer: str = Field("raymill", description="The iss claim of access tokens")
    audience: str = Field("raymill", description="The aud claim of access tokens")
    access_token_ttl_s: int = Field(900, ge=60, description="Life of an access token in seconds")
    refresh_token_ttl_s: int = Field(30 * 86400, ge=3600, description="Life of a refresh token in seconds")
    remembered_tokens: int = Field(
        20_000, ge=1, description="Verified access tokens that one process remembers, about 500 bytes each"
    )
    min_password_length: int = Field(12, ge=8, description="Fewest characters of a password")
    registration: Literal["open", "invitation", "closed"] = Field(
        "open", description="Who may register: everybody, the invited, or nobody"
    )
    registration_domains: tuple[str, ...] = Field(
        (), description="Domains whose addresses may register uninvited; none means all"
    )
    invitation_ttl_s: int = Field(7 * 86400, ge=60, description="Life of an invitation in seconds")
    keep_ended_s: int = Field(
        30 * 86400, ge=0, description="Seconds for which ended sessions and used or expired invitations are kept"
    )
    login_failures_per_account: int = Field(10, ge=1, description="Wrong passwords for one account in a window")
    login_failures_per_address: int = Field(50, ge=1, description="Wrong passwords from one address in a window")
    login_window_s: int = Field(900, ge=1, description="Seconds of that window")
    sso: dict[Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")], SsoProviderSettings] = Field(
        default_factory=dict,
        description="OpenID Connect providers by their key, as JSON (docs/guides/single-sign-on.md)",
    )


class LimitSettings(BaseModel):
    """How often the control plane may be asked."""

    principal_per_minute: int = Field(6_000, ge=1, description="Requests of one user or API key to /api in a minute")
    address_per_minute: int = Field(60_000, ge=1, description="Requests of one address to /api in a minute")
    streams: int = Field(200, ge=1, description="Event streams and followed job logs that one api process keeps open")
    streams_per_principal: int = Field(20, ge=1, description="Of those, streams of one account")


class ServingSettings(BaseModel):
    """The data plane."""

    cache_bytes: int = Field(1 * 2**30, gt=0, description="Bytes of loaded models that one replica holds")
    disk_cache_bytes: int = Field(8 * 2**30, gt=0, description="Bytes of fetched artifacts that one node keeps")
    idle_s: float = Field(900.0, gt=0, description="Seconds after which an unused model is dropped")
    max_body_bytes: int = Field(
        64 * 2**20, gt=0, description="Largest inference request, and largest answer of a dedicated app"
    )
    flush_s: float = Field(0.5, gt=0, description="Seconds between two writes of live metrics")
    log_flush_s: float = Field(5.0, gt=0, description="Seconds between two writes of the inference log")
    log_buffer_rows: int = Field(20_000, gt=0, description="Rows of the inference log held in memory at most")
    heartbeat_s: float = Field(1.0, gt=0, description="Seconds between two signs of life of a model server")
    try_models: Literal["all", "suspects"] = Field(
        "all",
        description="Which artifacts a process of their own loads first: all that are new to a node, or only those "
        "whose loading a server did not survive",
    )
    max_queued: int = Field(
        256, ge=1, description="Requests of one endpoint that wait in one replica, unless the endpoint says otherwise"
    )
    strangers_per_minute: int = Field(
        600,
        ge=0,
        description="Requests without a credential that one address may send to a model server in a minute; 0: any",
    )


class ControllerSettings(BaseModel):
    """The reconcile loops."""

    sweep_s: float = Field(1.0, gt=0, description="Seconds between two sweeps")
    lease_s: float = Field(10.0, gt=0, description="Life of a lease; a dead controller is replaced after it")
    max_concurrent_jobs: int = Field(2, ge=1, description="Training jobs that one cluster runs at a time")
    keep_apps_s: float = Field(
        600.0, ge=0, description="Seconds for which the app of a dedicated revision outlives its traffic, to roll back"
    )
    app_patience_s: float = Field(
        120.0,
        ge=0,
        description="Seconds for which an app with traffic may have fewer replicas than wanted before its deployment "
        "is called degraded",
    )
    fleet_patience_s: float = Field(
        60.0,
        ge=0,
        description="Seconds for which a new cluster may be held back, its controller not running yet, until the apps "
        "of the dedicated deployments run there; those that fail, or were late before, are not waited for",
    )
    standby: bool = Field(
        True,
        description="Whether each node keeps a process ready for dedicated deployments that may have no replica, one "
        "for each kind of library that their models need (400 MB with torch)",
    )
    keep_logs_s: float = Field(
        30 * 86_400.0, ge=86_400, description="Seconds for which inference logs and feedback are kept, by whole days"
    )
    keep_audit_days: int | None = Field(
        None, ge=1, description="Days for which rows of the audit log are kept, which its owner writes down; unset: all"
    )
    collect_after_s: float = Field(
        86_400.0, ge=60, description="Seconds for which a stored file is kept after nothing refers to it any more"
    )


class QuotaSettings(BaseModel):
    """What one project may take at once unless an administrator gave it quotas of its own."""

    concurrent_jobs: int = Field(50, ge=0, description="Jobs of one project that wait or run")
    cpus: float = Field(256.0, ge=0, description="CPUs that those jobs and the replicas of deployments may take")
    gpus: float = Field(64.0, ge=0, description="GPUs that those jobs and the replicas of deployments may take")
    stored_bytes: int = Field(
        100 * 2**30, ge=0, description="Bytes of one project's datasets, artifacts, packages and checkpoints"
    )
    deployments: int = Field(100, ge=0, description="Deployments of one project")


class LogSettings(BaseModel):
    """Logs."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least severe level written")


class Settings(BaseSettings):
    """Everything that an operator may set."""

    model_config = SettingsConfigDict(
        env_prefix="RAYMILL_", env_nested_delimiter="__", extra="forbid", validate_default=True
    )

    home: Path = Field(Path("~/.raymill"), description="Folder of the embedded servers, keys, logs and CLI login")
    config_file: Path | None = Field(None, description="JSON file with settings and secrets, mode 0600")
    keys_dir: Path = Field(
        Path("keys"), description="Folder of the signing keys, absolute or below home; the same keys on every node"
    )
    profile: Literal["embedded", "production"] = Field(
        "embedded", description="production refuses defaults that are only safe on a laptop"
    )
    database: DatabaseSettings = DatabaseSettings()
    redis: RedisSettings = RedisSettings()
    storage: StorageSettings = StorageSettings()
    http: HttpSettings = HttpSettings()
    ray: RaySettings = RaySettings()
    auth: AuthSettings = AuthSettings()
    limits: LimitSettings = LimitSettings()
    serving: ServingSettings = ServingSettings()
    controller: ControllerSettings = ControllerSettings()
    quotas: QuotaSettings = QuotaSettings()
    log: LogSettings = LogSettings()

    @field_validator("home")
    @classmethod
    def _expand(cls, home: Path) -> Path:
        return home.expanduser().absolute()

    @field_validator("keys_dir")
    @classmethod
    def _below_home(cls, keys_dir: Path, info: ValidationInfo) -> Path:
        home: Path = info.data.get("home", Path())
        return home / keys_dir.expanduser()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the configuration file below the environment."""
        return (
            init_settings,
            env_settings,
            JsonConfigSettingsSource(settings_cls, json_file=_config_file(init_settings, env_settings)),
        )

    @property
    def storage_url(self) -> str:
        """The object store's URL with the embedded default filled in."""
        return self.storage.url or f"file://{self.home / 'objects'}"


def _config_file(init_settings: PydanticBaseSettingsSource, env_settings: PydanticBaseSettingsSource) -> Path:
    given: dict[str, Any] = {}
    for source in (env_settings, init_settings):
        given |= {key: value for key, value in source().items() if key in {"home", "config_file"} and value}
    if given.get("config_file"):
        return Path(given["config_file"]).expanduser()
    return Path(given.get("home", "~/.raymill")).expanduser() / "config.json"


def given(settings: BaseModel) -> dict[str, Any]:
    """Return the settings that somebody gave, secrets in plain text: what ``config.json`` holds."""
    return {name: _plain(getattr(settings, name)) for name in settings.model_fields_set}


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return given(value)
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value) if isinstance(value, Path) else value


def environment_names() -> dict[str, str]:
    """Map each environment variable that sets a leaf setting to the setting's description."""
    names: dict[str, str] = {}
    for name, field in Settings.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            for leaf, leaf_field in annotation.model_fields.items():
                names[f"RAYMILL_{name}__{leaf}".upper()] = leaf_field.description or ""
        else:
            names[f"RAYMILL_{name}".upper()] = field.description or ""
    return names


__all__ = ["Settings", "environment_names", "given"]
