"""The manifests for KubeRay: what apps.yaml says, and valid for the operator, for Kubernetes and for Ray itself."""

import os
import re
import shlex
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.serve.schema import ServeDeploySchema

from guides import block, guide
from raymill.kernel.settings import Settings
from raymill.serve_apps import api, console, controller, inference

ROOT = Path(__file__).parents[2]
GUIDE = guide("kubernetes")
FOLDER = ROOT / "clusters" / "kuberay"
SCHEMA = Path(__file__).parent / "rayservice-v1.yaml"
SECRETS = {"raymill-config", "raymill-keys"}
SYSTEM = "raymill_system"


def manifests() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / "raymill.yaml").read_text()))


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [manifest for manifest in manifests() if manifest["kind"] == kind]


SERVICE = of_kind("RayService")[0]
CLUSTER: dict[str, Any] = SERVICE["spec"]["rayClusterConfig"]
TEMPLATES: dict[str, dict[str, Any]] = {
    "head": CLUSTER["headGroupSpec"]["template"],
    **{group["groupName"]: group["template"] for group in CLUSTER["workerGroupSpecs"]},
}


def container(group: str) -> dict[str, Any]:
    (only,) = TEMPLATES[group]["spec"]["containers"]
    return dict(only)


def environment(group: str) -> dict[str, str]:
    return {row["name"]: row["value"] for row in container(group)["env"]}


def render(**variables: str) -> str:
    done = subprocess.run(
        [sys.executable, str(FOLDER / "render.py")],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_the_committed_manifests_are_what_the_template_and_apps_yaml_give() -> None:
    assert render(RAYMILL_HOME="/elsewhere", RAYMILL_HTTP__PORT="1") == (FOLDER / "raymill.yaml").read_text(), (
        "run: python clusters/kuberay/render.py > clusters/kuberay/raymill.yaml"
    )


def test_the_service_runs_the_apps_of_apps_yaml() -> None:
    config = yaml.safe_load(SERVICE["spec"]["serveConfigV2"])
    ServeDeploySchema.model_validate(config)
    ours = yaml.safe_load((ROOT / "apps.yaml").read_text())
    assert [{**app, "deployments": 0} for app in config["applications"]] == [
        {**app, "deployments": 0} if "deployments" in theirs else app | {"deployments": 0}
        for app, theirs in zip(ours["applications"], config["applications"], strict=True)
    ]
    assert config["grpc_options"].items() >= ours["grpc_options"].items()
    assert config["http_options"] == {"host": "0.0.0.0", "port": 8000}  # noqa: S104


@pytest.mark.parametrize(
    "application",
    [
        api.build(api.ApiArgs()),
        inference.build(inference.InferenceArgs()),
        console.build(console.ConsoleArgs()),
        controller.build(controller.ControllerArgs()),
    ],
    ids=lambda application: application._bound_deployment.name,
)
def test_apps_are_placed_where_the_secrets_are(application: Any) -> None:
    deployment = application._bound_deployment
    config = yaml.safe_load(SERVICE["spec"]["serveConfigV2"])
    (app,) = [app for app in config["applications"] if app["name"] == deployment.name]
    if deployment.name == "controller":
        assert "node:__internal_head__" in deployment.ray_actor_options["resources"]
        assert "deployments" not in app
        return
    (placed,) = app["deployments"]
    assert placed["name"] == deployment.name
    # What stands here replaces all options of the code, so nothing may be lost.
    assert set(deployment.ray_actor_options) == {"num_cpus"}
    assert placed["ray_actor_options"] == {"num_cpus": 0, "resources": {SYSTEM: 1}}


def test_jobs_go_to_their_own_pods_and_apps_to_the_others() -> None:
    cluster = {"metadata": {"name": "raymill", "namespace": "team"}, "spec": deepcopy(CLUSTER)}
    types = _derive_autoscaling_config_from_ray_cr(cluster)["available_node_types"]
    resources = {name: rest["resources"] for name, rest in types.items()}
    assert {name: has["CPU"] for name, has in resources.items()} == {"headgroup": 0, "system": 0, "jobs": 4}
    assert {name for name, has in resources.items() if SYSTEM in has} == {"system"}
    wanted = sum(
        place["num_replicas"] * place["ray_actor_options"]["resources"][SYSTEM]
        for app in yaml.safe_load(SERVICE["spec"]["serveConfigV2"])["applications"]
        for place in app.get("deployments", [])
    )
    assert types["system"]["min_workers"] * resources["system"][SYSTEM] >= wanted


def test_only_system_pods_hold_the_secrets() -> None:
    mounted = {
        group: {volume["secret"]["secretName"] for volume in template["spec"].get("volumes", [])}
        for group, template in TEMPLATES.items()
    }
    assert mounted == {"head": SECRETS, "system": SECRETS, "jobs": set()}
    assert not [row for group in TEMPLATES for row in container(group)["env"] if "valueFrom" in row]
    assert CLUSTER["authOptions"] == {"mode": "token", "secretName": "raymill-ray-token"}


def test_the_guide_makes_the_secrets_that_the_manifests_name() -> None:
    made = re.findall(r"create secret generic (\S+) (.*)", GUIDE)
    ours = {name: set(re.findall(r"--from-\w+=(?:\S*/)?([\w.-]+)", rest)) for name, rest in made}
    redis = CLUSTER["gcsFaultToleranceOptions"]["redisPassword"]["valueFrom"]["secretKeyRef"]
    assert ours == {
        "raymill-keys": {"signing.pem", "public.pem", "master.keys"},
        "raymill-config": {"config.json", "db-ca.pem"},
        CLUSTER["authOptions"]["secretName"]: {"auth_token"},
        redis["name"]: {redis["key"]},
    }
    assert {"raymill-keys", "raymill-config"} == SECRETS
    mounts = {mount["name"]: mount["mountPath"] for mount in container("system")["volumeMounts"]}
    there = environment("system")
    assert there["RAYMILL_CONFIG_FILE"] == f"{mounts['config']}/config.json"
    assert there["RAYMILL_KEYS_DIR"] == mounts["keys"]
    assert f"sslrootcert={mounts['config']}/db-ca.pem" in GUIDE


def test_the_guides_config_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.json"
    path.write_text(block("kubernetes", language="json"))
    for name in [name for name in os.environ if name.startswith("RAYMILL_")]:
        monkeypatch.delenv(name)
    settings = Settings(config_file=path)
    assert settings.storage_url == "s3://my-bucket/raymill"
    assert settings.http.base_url == "https://raymill.example.com"
    assert settings.database.url
    assert settings.redis.url


def test_the_guides_rendering_takes_image_and_redis() -> None:
    (command,) = [line for line in GUIDE.splitlines() if line.startswith("python clusters/kuberay/render.py")]
    done = subprocess.run(
        ["bash", "-c", command.replace("python", shlex.quote(sys.executable), 1).rpartition(">")[0]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    spec = next(one for one in yaml.safe_load_all(done.stdout) if one["kind"] == "RayService")["spec"]
    assert spec["rayClusterConfig"]["gcsFaultToleranceOptions"]["redisAddress"] == "gcs-redis:6379"
    assert done.stdout.count("image: registry.example.com/raymill:0.1.0") == len(TEMPLATES)


@pytest.mark.parametrize("group", TEMPLATES)
def test_pods_run_without_privileges_and_are_probed(group: str) -> None:
    spec, ray = TEMPLATES[group]["spec"], container(group)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 1000
    assert ray["securityContext"]["allowPrivilegeEscalation"] is False
    assert ray["resources"]["limits"]["memory"] == ray["resources"]["requests"]["memory"]
    assert {"livenessProbe", "readinessProbe"} <= ray.keys()
    if group != "head":
        assert spec["automountServiceAccountToken"] is False
        assert spec["serviceAccountName"] in {account["metadata"]["name"] for account in of_kind("ServiceAccount")}


def test_policies_select_the_pods_they_mean() -> None:
    labels = {group: template["metadata"]["labels"].items() for group, template in TEMPLATES.items()}

    def selected(selector: dict[str, Any]) -> set[str]:
        return {group for group, has in labels.items() if selector["matchLabels"].items() <= has}

    policies = {policy["metadata"]["name"]: policy["spec"] for policy in of_kind("NetworkPolicy")}
    assert selected(policies["raymill-ingress"]["podSelector"]) == {"head", "system", "jobs"}
    assert selected(policies["raymill-jobs-egress"]["podSelector"]) == {"jobs"}
    (budget,) = of_kind("PodDisruptionBudget")
    assert selected(budget["spec"]["selector"]) == {"system"}
    open_to_all = [rule["ports"] for rule in policies["raymill-ingress"]["ingress"] if "from" not in rule]
    assert open_to_all == [[{"port": 8000}, {"port": 9000}]]


def test_a_pod_that_starts_installs_the_wrapper_its_environment_names() -> None:
    command = " ".join(container("jobs")["command"])
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with TemporaryDirectory(prefix="rm-") as home:
        there = environment("jobs")["RAYMILL_HOME"]
        pod = {name: value.replace(there, home) for name, value in environment("jobs").items()}
        subprocess.run(["bash", "-c", "--", command], env={**pod, "PATH": path}, cwd=home, timeout=60, check=True)
        launcher = Path(pod["RAY_SERVE_HAPROXY_BINARY_PATH"])
        assert os.access(launcher, os.X_OK)
        assert '"host": "*"' in launcher.read_text()


@pytest.mark.parametrize("manifest", manifests(), ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_kubernetes_knows_every_object(manifest: dict[str, Any]) -> None:
    if manifest["kind"] != "RayService":
        kubernetes_validate.validate(manifest, "1.33", strict=True)


@pytest.mark.parametrize("group", TEMPLATES)
def test_kubernetes_knows_every_pod(group: str) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", **TEMPLATES[group]}
    pod["metadata"] = {"name": group, **pod["metadata"]}
    kubernetes_validate.validate(pod, "1.33", strict=True)


def test_the_operator_knows_the_service() -> None:
    schema = _strict(yaml.load(SCHEMA.read_text(), Loader=yaml.CSafeLoader))
    jsonschema.validate(SERVICE, schema)
    unknown = deepcopy(SERVICE)
    unknown["spec"]["rayClusterConfig"]["headGroupSpec"]["rayStartParam"] = {}
    with pytest.raises(jsonschema.ValidationError, match="rayStartParam"):
        jsonschema.validate(unknown, schema)


def _strict(schema: Any) -> Any:
    """Refuse fields that the schema does not name; the API server would drop them without a word."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: _strict(part) for key, part in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and "metadata" not in schema:
        return {"additionalProperties": False, **inner}
    return inner
