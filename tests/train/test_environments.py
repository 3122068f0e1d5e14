"""What a project may set in a runtime environment, and how its packages are named."""

from typing import Any

import pytest

from raymill.train.environments import (
    check_environment,
    check_package_name,
    package_uris,
    redacted,
    stored_uri,
    with_uris,
)
from raymill.train.errors import BadPackageName, EnvironmentRefused

DIGEST = "ab" * 32


def test_what_a_project_may_set_is_kept_as_it_is() -> None:
    environment = {
        "working_dir": "gcs://_ray_pkg_1.zip",
        "py_modules": ["gcs://_ray_pkg_2.zip"],
        "pip": {"packages": ["six"], "pip_check": False},
        "env_vars": {"LEVEL": "7", "AWS_ACCESS_KEY_ID": "the user's own"},
        "config": {"setup_timeout_seconds": 60, "eager_install": True, "log_files": []},
    }
    assert check_environment(environment) == environment


def test_what_the_client_has_done_already_is_left_out() -> None:
    assert check_environment({"excludes": ["*.bin"], "_ray_commit": "abc"}) == {}


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"image_uri": "docker.io/evil"}, "image_uri"),
        ({"container": {"image": "evil"}}, "container"),
        ({"_nsight": "default"}, "_nsight"),
        ({"_rocprof_sys": "default"}, "_rocprof_sys"),
        ({"worker_process_setup_hook": "evil.hook"}, "worker_process_setup_hook"),
        ({"java_jars": ["gcs://x.jar"]}, "java_jars"),
        ({"conda": {"dependencies": []}}, "conda"),
        ({"py_executable": "sudo python"}, "py_executable"),
        ({"_inject_current_ray": True}, "_inject_current_ray"),
        ({"env_vars": {"RAYMILL_API_KEY": "rm_other"}}, "env_vars.RAYMILL_API_KEY"),
        ({"env_vars": {"RAY_AUTH_TOKEN": "x"}}, "env_vars.RAY_AUTH_TOKEN"),
        ({"env_vars": {"LEVEL": 7}}, "env_vars"),
        ({"working_dir": "https://example.com/evil.zip"}, "working_dir"),
        ({"working_dir": "/etc"}, "working_dir"),
        ({"py_modules": ["s3://bucket/evil.zip"]}, "py_modules"),
        ({"py_modules": "gcs://x.zip"}, "py_modules"),
        ({"working_dir": 7}, "working_dir"),
        ({"pip": "/etc/passwd"}, "pip"),
        ({"config": {"log_files": ["/etc/passwd"]}}, "config.log_files"),
        ({"config": {"setup_timeout_seconds": -1}}, "config.setup_timeout_seconds"),
        ({"config": {"surprise": 1}}, "config.surprise"),
        ({"config": []}, "config"),
    ],
)
def test_what_a_project_may_not_set_is_refused_by_name(environment: dict[str, Any], named: str) -> None:
    with pytest.raises(EnvironmentRefused) as refused:
        check_environment(environment)
    assert named in refused.value.message


def test_packages_get_names_that_follow_from_their_content() -> None:
    environment = {"working_dir": "gcs://_ray_pkg_1.zip", "py_modules": ["gcs://lib.tar.gz"], "pip": ["six"]}
    assert package_uris(environment) == ["gcs://_ray_pkg_1.zip", "gcs://lib.tar.gz"]
    stored = {uri: stored_uri(uri.removeprefix("gcs://"), DIGEST) for uri in package_uris(environment)}
    assert with_uris(environment, stored) == {
        "working_dir": f"gcs://_ray_pkg_{DIGEST}.zip",
        "py_modules": [f"gcs://_ray_pkg_{DIGEST}.tar.gz"],
        "pip": ["six"],
    }


@pytest.mark.parametrize("name", ["_ray_pkg_0a.zip", "code.tar.gz", "code.tgz", "code.tar.xz"])
def test_archives_are_packages(name: str) -> None:
    assert name.endswith(check_package_name(name))


@pytest.mark.parametrize("name", ["a-1.0-py3-none-any.whl", "code", "a/b.zip", "a b.zip", ".zip", "x" * 300 + ".zip"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(BadPackageName):
        check_package_name(name)


def test_values_of_variables_are_hidden() -> None:
    environment = {"env_vars": {"TOKEN": "secret"}, "pip": ["six"]}
    assert redacted(environment) == {"env_vars": {"TOKEN": "<redacted>"}, "pip": ["six"]}
    assert environment["env_vars"] == {"TOKEN": "secret"}
