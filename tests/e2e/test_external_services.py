"""The main job on an S3 server, and on PostgreSQL and Valkey by URLs with passwords and TLS."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pyarrow import parquet

from guides import blocks
from open_load import open_load
from raymill.compute.embedded.postgres import EmbeddedPostgres
from s3_server import BUCKET, S3Server, s3_server
from servers import platform_environment, start_databases
from timing import until
from tls_door import Certificates, Door, make_certificates, tls_door
from whole_platform import ROOT, Platform

GUIDE = "own-databases"
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder with a short path, which Ray's sockets need."""
    path = Path(tempfile.mkdtemp(prefix="rm-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def own_ports(home: Path) -> dict[str, str]:
    """Return an environment whose port ranges are not those of the platform that other tests share."""
    block = (os.getpid() + 5) % 10
    ranges = {
        "HTTP__REPLICA_PORTS": [31_001 + 100 * block, 31_100 + 100 * block],
        "HTTP__REPLICA_GRPC_PORTS": [42_001 + 100 * block, 42_100 + 100 * block],
        "RAY__WORKER_PORTS": [10_002 + 900 * block, 10_900 + 900 * block],
    }
    return platform_environment(home) | {f"RAYMILL_{name}": json.dumps(value) for name, value in ranges.items()}


def through(url: str, door: Door) -> str:
    """Return login, door and database of the URL, as they stand in a URL."""
    parts = urlsplit(url)
    return f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{door.port}{parts.path}"


class Outside:
    """The services that the platform is given, and the settings that name them."""

    def __init__(self, folder: Path, closing: ExitStack) -> None:
        certificates: Certificates = make_certificates(folder / "tls")
        postgres_url, valkey_url, stop = start_databases(folder / "db")
        closing.callback(stop)
        self.postgres = closing.enter_context(
            tls_door(urlsplit(postgres_url).port or 0, certificates, is_postgres=True)
        )
        self.valkey = closing.enter_context(tls_door(urlsplit(valkey_url).port or 0, certificates, is_postgres=False))
        self.s3: S3Server = closing.enter_context(s3_server(folder / "s3"))
        # What the guide's examples stand for.
        self.examples = {
            "raymill:secret@db.example.com:5432/raymill": through(postgres_url, self.postgres),
            "raymill_app:secret@db.example.com:5432/raymill": through(
                EmbeddedPostgres(folder / "db" / "postgres").url, self.postgres
            ),
            ":secret@cache.example.com:6379/0": through(valkey_url, self.valkey),
            "/etc/ssl/db-ca.pem": str(certificates.authority),
            "/etc/ssl/cache-ca.pem": str(certificates.authority),
            "my-bucket/raymill": f"{BUCKET}/team/a",
            '"key": "my-key", "secret": "my-secret", "endpoint_url": "https://s3.example.com"': json.dumps(
                self.s3.options
            ).strip("{}"),
        }

    def fill_in(self, text: str) -> str:
        """Put our services into the place of the guide's examples."""
        for example, own in self.examples.items():
            text = text.replace(example, own)
        assert not re.search("example.com|/etc/ssl|my-", text), text
        return text


def test_the_main_job_on_other_peoples_services(folder: Path) -> None:
    with ExitStack() as closing:
        outside = Outside(folder, closing)
        home = folder / "h"
        platform = Platform(home, own_ports(home), ROOT / "apps.yaml")
        closing.callback(platform.command, "down", check=False)
        said = in_bash(outside.fill_in(blocks(GUIDE)[0]), platform.environment)
        assert said.count("(external)") == 2, said
        assert not any(secret in said for secret in ("sslmode", "@127"))
        written = json.loads((home / "config.json").read_text())
        assert json.loads(outside.fill_in(blocks(GUIDE, "json")[0])).items() <= written.items()
        table = platform.command("demo").stdout
        accuracy = float(re.search(r"accuracy (0\.\d+)\s", table.split("predict")[-1])[1])  # type: ignore[index]
        assert accuracy >= 0.95
        assert outside.postgres.clients > 0
        assert outside.valkey.clients > 0
        assert not [name for name in ("objects", "postgres", "valkey") if (home / name).exists()]
        check_bucket(outside.s3)
        check_last_rows(platform, outside.s3)


def in_bash(script: str, environment: dict[str, str]) -> str:
    """Run the guide's commands as a user would, and return what they print."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', os.defpath)}"
    done = subprocess.run(
        ["bash", "-ec", script],
        env=environment | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_bucket(s3: S3Server) -> None:
    """Look for one of each kind of object, and no leftovers of uploads."""
    root, files = f"{BUCKET}/team/a", s3.files()

    def logged() -> list[str]:
        return [name for name in files.find(root) if "/inference-log/" in name]

    rows = until(logged, within_s=15, what="the inference log in the bucket")
    assert parquet.read_table(io.BytesIO(files.cat_file(rows[0]))).num_rows > 0
    names = [name.removeprefix(f"{root}/") for name in files.find(root)]
    assert len([name for name in names if re.fullmatch(r"prj_\w+/sha256/../[0-9a-f]{64}", name)]) >= 3
    assert [name for name in names if name.startswith(".serving/endpoint/")]
    assert not [name for name in names if name.startswith((".uploads/", ".probe/"))]


def check_last_rows(platform: Platform, s3: S3Server) -> None:
    """Predict until nobody answers any more: `raymill down` leaves no answered request out of the log."""
    with platform.admin() as client:
        deployment = next(client.deployments.list())
        key = client.api_keys.create(name="last", project_id=deployment.project_id).key or ""
    body, url = {"instances": [[0.0] * 64]}, f"{deployment.endpoint}/predict"
    with open_load(url, headers={"X-API-Key": key}, body=body, per_second=50) as load:
        platform.command("down")
    answered = {each.request_id for each in load.predictions if each.is_good}
    files = s3.files()
    logs = [name for name in files.find(f"{BUCKET}/team/a") if "/inference-log/" in name]
    tables = [parquet.read_table(io.BytesIO(files.cat_file(name)), columns=["request_id"]) for name in logs]
    logged = {request_id for table in tables for request_id in table.column("request_id").to_pylist()}
    assert answered
    assert not answered - logged
