"""An S3 server for a test run: SeaweedFS, one program out of a wheel, on loopback with a key and its secret."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import s3fs

from servers import free_ports

ACCESS_KEY, SECRET_KEY = "raymill-test", "raymill-test-secret"
BUCKET = "raymill"
START_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class S3Server:
    """A running server with one empty bucket."""

    endpoint: str

    @property
    def options(self) -> dict[str, Any]:
        """What goes into ``storage.options``."""
        return {"key": ACCESS_KEY, "secret": SECRET_KEY, "endpoint_url": self.endpoint}

    def files(self) -> s3fs.S3FileSystem:
        """Return a client that remembers nothing."""
        return s3fs.S3FileSystem(**self.options, use_listings_cache=False)


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Run the server below ``folder``, with a bucket that takes writes."""
    names = [
        f"{part}.{port}" for part in ("master", "volume", "filer", "admin", "s3") for port in ("port", "port.grpc")
    ]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(_command(folder, ports), stdout=log, stderr=log, cwd=folder)
    try:
        server = S3Server(f"http://127.0.0.1:{ports['s3.port']}")
        _await_bucket(server, process)
        yield server
    finally:
        process.kill()
        process.wait()
        for port in ports.values():
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108 (where it puts them, always)
                left.unlink()


def _command(folder: Path, ports: dict[str, int]) -> list[str]:
    identity = {"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}
    access = {"identities": [{"name": "raymill", "credentials": [identity], "actions": ["Admin"]}]}
    (folder / "s3.json").write_text(json.dumps(access))
    (folder / "data").mkdir(exist_ok=True)
    options = ports | {
        "dir": folder / "data",
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "master.telemetry": "false",
        "admin.ui": "false",
        "webdav": "false",
        "bucket": BUCKET,
        "master.volumeSizeLimitMB": 64,
        "s3.config": folder / "s3.json",
        "s3.autoCreateBucket": "false",
        "s3.iam": "false",
        "s3.localSocket": folder / "s3.sock",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
    }
    return [str(Path(sys.executable).with_name("weed")), "mini", *(f"-{name}={text}" for name, text in options.items())]


def _await_bucket(server: S3Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    files = server.files()
    while True:
        try:
            files.pipe_file(f"{BUCKET}/first", b"1")
            files.rm_file(f"{BUCKET}/first")
        except Exception:
            assert process.poll() is None, "the S3 server has ended; see weed.log"
            assert time.monotonic() < deadline, "the S3 server did not come up"
            time.sleep(0.1)
        else:
            return
