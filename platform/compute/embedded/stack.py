"""The whole platform on one machine: brings every part up, takes it down, and says how it is."""

import fcntl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import httpx
import psutil
import psycopg
from pydantic import SecretStr

from ...kernel.settings import DatabaseSettings, RedisSettings, Settings, given
from .. import serve_config
from ..cluster import Cluster, ClusterUnreachable, ServeApp, dashboard_url
from . import processes
from .errors import StartFailed, Unreachable
from .external import audit_weakness, check_postgres, check_store, check_valkey, place
from .owner import with_owner
from .postgres import EmbeddedPostgres
from .ray_head import EmbeddedRay
from .valkey import EmbeddedValkey

APPS_TIMEOUT_S = 180.0
DOOR_TIMEOUT_S = 60.0


class Report(Protocol):
    """Where the progress of `up` and `down` is shown."""

    def begin(self, part: str) -> None:
        """Tell that work on a part has begun."""

    def note(self, part: str, text: str) -> None:
        """Tell how far the part is."""

    def done(self, part: str, text: str) -> None:
        """Tell that the part is ready, and where."""

    def failed(self, part: str) -> None:
        """Tell that the part is not ready; the error follows."""


@dataclass(frozen=True)
class PartStatus:
    """One part of the platform as `raymill status` shows it."""

    part: str
    state: str
    address: str
    pid: int | None = None
    memory_bytes: int | None = None
    detail: str = ""


class Stack:
    """PostgreSQL, Valkey, the Ray head and the Serve applications of one home.

    A part whose address the settings name is external: it is used, and neither started nor stopped.
    """

    def __init__(self, settings: Settings, *, report: Report, apps_path: Path | None = None) -> None:
        """Describe the stack of `settings.home`; nothing is started."""
        self.settings = settings
        self.report = report
        self.apps_path = apps_path or serve_config.apps_file()
        logs = settings.home / "logs"
        self.postgres = EmbeddedPostgres(settings.home / "postgres", log=logs / "postgres.log")
        self.valkey = EmbeddedValkey(settings.home / "valkey", log=logs / "valkey.log")

    @property
    def ray(self) -> EmbeddedRay:
        """The Ray head, described by the settings as they are now."""
        return EmbeddedRay(self.settings)

    def up(self, prepare: Callable[[Settings], None]) -> Settings:
        """Bring every part up and return the settings with all addresses filled in.

        Args:
            prepare: Called once the databases answer, beside the start of Ray: migrates, makes the first account.

        Raises:
            RaymillError: One sentence for the operator; what already runs stays up.
        """
        self.settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._alone():
            self._check_external()
            if self.settings.ray.address is None and self.ray.find_process() is None:
                self.ray.clear()
                self.ray.check_ports()
            with ThreadPoolExecutor(3) as pool:
                databases = pool.submit(self._start_databases, pool, prepare)
                head = pool.submit(self._start_ray)
                databases.result()
                head.result()
            self._deploy()
            self._await_door()
        return self.settings

    def down(self, farewell: Callable[[Settings], None] = lambda settings: None) -> None:
        """Take every part down that `up` started; the data stays.

        Args:
            farewell: Called while everything still runs: lets the applications write away what they hold in memory.
        """
        if not self.settings.home.exists():
            return
        with self._alone():
            if self.ray.find_process() is not None:
                farewell(self.settings)
            with self._step("Ray") as done:
                self.ray.stop()
                done("stopped")
            with self._step("Valkey") as done:
                self.valkey.stop()
                done("stopped")
            with self._step("PostgreSQL") as done:
                self.postgres.stop()
                done("stopped")

    def status(self) -> list[PartStatus]:
        """How each part is, external ones included."""
        return [self._postgres_status(), self._valkey_status(), self._ray_status()]

    def is_embedded(self, part: EmbeddedPostgres | EmbeddedValkey) -> bool:
        """Tell whether we run the server ourselves: the settings name no other."""
        url = _url(self._section(part))
        return not url or (part.port is not None and url in part.urls)

    def _start_databases(self, pool: ThreadPoolExecutor, prepare: Callable[[Settings], None]) -> None:
        valkey = pool.submit(self._start_database, "Valkey", self.valkey)
        database_url = self._start_database("PostgreSQL", self.postgres)
        self._remember(database_url, valkey.result())
        with self._step("Schema and admin account") as done:
            prepare(with_owner(self.settings))
            done("ready")

    def _start_database(self, name: str, part: EmbeddedPostgres | EmbeddedValkey) -> str:
        with self._step(name) as done:
            if self.is_embedded(part):
                url = part.start()
                done(f"127.0.0.1:{part.port}")
                return url
            url = _url(self._section(part))
            done(f"{place(url)} (external)")
            return url

    def _check_external(self) -> None:
        """Make sure that what the settings name answers, before anything is started."""
        if not self.is_embedded(self.postgres):
            check_postgres(self.settings)
        if not self.is_embedded(self.valkey):
            check_valkey(self.settings)
        check_store(self.settings)
        if self.settings.ray.address is not None:
            with Cluster.connect(self.settings) as cluster:
                cluster.version()

    def _section(self, part: EmbeddedPostgres | EmbeddedValkey) -> DatabaseSettings | RedisSettings:
        return self.settings.database if isinstance(part, EmbeddedPostgres) else self.settings.redis

    def _remember(self, database_url: str, redis_url: str) -> None:
        """Write what was found into config.json, where every later process of the platform reads it."""
        path = self.settings.config_file or self.settings.home / "config.json"
        database = self.settings.database.model_copy(update={"url": SecretStr(database_url)})
        redis = self.settings.redis.model_copy(update={"url": SecretStr(redis_url)})
        self.settings = self.settings.model_copy(update={"database": database, "redis": redis, "config_file": path})
        document = given(self.settings) | {"home": str(self.settings.home)}
        document.pop("config_file", None)
        # Whoever migrates is told each time; no process that runs on needs it.
        document["database"].pop("admin_url", None)
        processes.write_state(path, document)

    def _start_ray(self) -> None:
        with self._step("Ray") as done:
            if self.settings.ray.address is None:
                self.ray.start()
                done(f"{self.ray.gcs_address}, dashboard {dashboard_url(self.settings)}")
                return
            done(f"{self.settings.ray.address} (external)")

    def _deploy(self) -> None:
        with self._step("Applications") as done:
            try:
                apps = self._declare()
            except ClusterUnreachable:
                if self.settings.ray.address is not None or self.ray.find_process() is not None:
                    raise
                # Ray ends the whole head when one of its processes dies.
                self.report.note("Applications", "the Ray head died and is started anew")
                self.ray.start()
                apps = self._declare()
            done(", ".join(sorted(app.name for app in apps)))

    def _declare(self) -> list[ServeApp]:
        with Cluster.connect(self.settings) as cluster:
            return serve_config.deploy(
                cluster,
                serve_config.read_serve_config(self.apps_path, self.settings),
                timeout_s=APPS_TIMEOUT_S,
                progress=lambda text: self.report.note("Applications", text),
            )

    def _await_door(self) -> None:
        url = f"{local_url(self.settings)}/api/readyz"
        last = "no answer"

        def ready() -> bool:
            nonlocal last
            try:
                answer = httpx.get(url, timeout=5.0, trust_env=False)
            except httpx.HTTPError as error:
                last = str(error)
                return False
            last = f"HTTP {answer.status_code} {answer.text.strip()[:200]}"
            return answer.status_code == httpx.codes.OK

        with self._step("Door") as done:
            processes.wait_until(ready, timeout_s=DOOR_TIMEOUT_S, failure=lambda: f"{url} is not ready: {last}.")
            done(self.settings.http.base_url)

    @contextmanager
    def _step(self, part: str) -> Iterator[Callable[[str], None]]:
        self.report.begin(part)
        try:
            yield lambda text: self.report.done(part, text)
        except BaseException:
            self.report.failed(part)
            raise

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep a second `up` or `down` of the same home out."""
        with (self.settings.home / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StartFailed(
                    f"Another 'raymill up' or 'raymill down' works on {self.settings.home}; wait for it to end."
                ) from None
            yield

    def _postgres_status(self) -> PartStatus:
        if not self.is_embedded(self.postgres):
            return _external_status("postgres", place(_url(self.settings.database)), self.settings, check_postgres)
        address = f"127.0.0.1:{self.postgres.port}" if self.postgres.port else ""
        return _local_status("postgres", address, self.postgres.find_process())

    def _valkey_status(self) -> PartStatus:
        if not self.is_embedded(self.valkey):
            return _external_status("valkey", place(_url(self.settings.redis)), self.settings, check_valkey)
        address = f"127.0.0.1:{self.valkey.port}" if self.valkey.port else ""
        return _local_status("valkey", address, self.valkey.find_process())

    def _ray_status(self) -> PartStatus:
        with Cluster.connect(self.settings, timeout_s=3.0) as cluster:
            up = cluster.is_up()
        if self.settings.ray.address is not None:
            return PartStatus("ray", "external" if up else "unreachable", self.settings.ray.address)
        head, members = self.ray.find_process(), self.ray.find_processes()
        state = "running" if head and up else "not answering" if head or members else "stopped"
        memory = _memory(members)
        detail = f"dashboard {dashboard_url(self.settings)}, {len(members)} processes" if members else ""
        return PartStatus("ray", state, self.ray.gcs_address, head.pid if head else None, memory or None, detail)


def _url(section: DatabaseSettings | RedisSettings) -> str:
    return section.url.get_secret_value() if section.url else ""


def local_url(settings: Settings) -> str:
    """URL of the public door as this machine reaches it, whatever users are told."""
    if settings.ray.address is not None:
        external = (
            settings.http.public_url or f"http://{urlsplit(dashboard_url(settings)).hostname}:{settings.http.port}"
        )
        return external.rstrip("/")
    return settings.http.local_url


def _external_status(part: str, address: str, settings: Settings, check: Callable[[Settings], None]) -> PartStatus:
    try:
        check(settings)
        detail = audit_weakness(settings) if check is check_postgres else ""
    except Unreachable as error:
        return PartStatus(part, "unreachable", address, detail=error.message)
    except psycopg.Error as error:
        return PartStatus(part, "unreachable", address, detail=str(error))
    return PartStatus(part, "external", address, detail=detail)


def _local_status(part: str, address: str, process: psutil.Process | None) -> PartStatus:
    if process is None:
        return PartStatus(part, "stopped", address)
    family = [process, *process.children(recursive=True)]
    return PartStatus(part, "running", address, process.pid, _memory(family))


def _memory(members: list[psutil.Process]) -> int:
    """Resident memory of the processes together; pages that they share count for each."""
    total = 0
    for process in members:
        try:
            total += process.memory_info().rss
        except psutil.Error:
            continue
    return total
