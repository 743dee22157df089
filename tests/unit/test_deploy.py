"""The deployment files can't be run here, so what they say is held against what is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from oplogbridge.admin.server import OPEN_PATHS
from oplogbridge.cli.app import app
from oplogbridge.config import load

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
CREDENTIALS = {"OPLOG_USER": "bridge", "OPLOG_PASSWORD": "secret"}

COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
KUBERNETES = [
    document
    for name in ("deployment.yaml", "service.yaml")
    for document in yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text())
]
UNIT = (DEPLOY / "systemd" / "oplog-bridge.service").read_text()


def assert_is_a_command(words: list[str]) -> None:
    """Parses them as the command line does, and runs nothing."""
    group = get_command(app)
    name, command, rest = group.resolve_command(group.make_context("oplog-bridge", [words[0]]), words)
    # Paths are those of the machine it is for.
    rest = [__file__ if word.endswith(".yaml") else word for word in rest]
    command.make_context(name, rest)


def compose_config(tmp_path: Path) -> Path:
    config = tmp_path / "oplog-bridge.yaml"
    config.write_text(COMPOSE["configs"]["bridge"]["content"].replace("$$", "$"))
    return config


@pytest.mark.parametrize("service", ["bridge", "emulator"])
def test_compose_runs_commands_that_there_are(service: str) -> None:
    assert_is_a_command(COMPOSE["services"][service]["command"])


def test_compose_gives_the_bridge_a_good_configuration(tmp_path: Path) -> None:
    environment = COMPOSE["services"]["bridge"]["environment"]
    # As Compose does where the shell sets nothing: ${NAME:-default}.
    filled = {name: re.fullmatch(r"\$\{\w+:-(.*)\}", value).group(1) for name, value in environment.items()}
    loaded = load([compose_config(tmp_path)], filled)
    assert sorted(loaded.settings.pipelines) == ["shop-to-kafka", "shop-to-redis"]
    assert loaded.settings.sources["shop"].url.startswith("http://emulator:8800/api/v4/")
    assert str(loaded.settings.admin.listen.port) in COMPOSE["services"]["bridge"]["ports"][0]


def test_compose_refers_to_services_volumes_and_files_that_there_are() -> None:
    services = COMPOSE["services"]
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)
        for depended in service.get("depends_on", {}):
            assert "healthcheck" in services[depended]
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in COMPOSE["volumes"]
        if build := service.get("build"):
            context = (DEPLOY / build["context"]).resolve()
            assert context == ROOT
            assert (context / build["dockerfile"]).is_file()


def test_the_image_is_built_from_what_is_there_and_starts_with_a_command_that_there_is() -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    copied = [name for line in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.M) for name in line.split()]
    assert copied
    for name in copied:
        assert (ROOT / name).exists()
        assert f"!{name}" in ignored
    words = yaml.safe_load(re.search(r"^CMD (\[.*\])$", DOCKERFILE, re.M).group(1))
    assert_is_a_command(words)
    assert re.search(r"127\.0\.0\.1:8090(/\w+)", DOCKERFILE).group(1) in OPEN_PATHS


def test_kubernetes_probes_paths_that_are_served_without_a_token() -> None:
    container = the("Deployment")["spec"]["template"]["spec"]["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for probe in ("livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["path"] in OPEN_PATHS
        assert container[probe]["httpGet"]["port"] in ports
    assert_is_a_command(container["args"])
    loaded = load([DEPLOY / "kubernetes" / "oplog-bridge.yaml"], {**CREDENTIALS, "POD_NAME": "oplog-bridge-1"})
    assert loaded.settings.admin.listen.port == ports["admin"]
    assert loaded.settings.instance == "oplog-bridge-1"
    assert {variable["name"] for variable in container["env"]} == {"POD_NAME"}


def test_kubernetes_selects_the_pods_that_it_makes() -> None:
    labels = the("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert the("Deployment")["spec"]["selector"]["matchLabels"] == labels
    assert the("Service")["spec"]["selector"] == labels
    assert the("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels


def test_kubernetes_mounts_the_files_that_are_generated_into_the_config_map() -> None:
    kustomization = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())
    for name in kustomization["resources"] + kustomization["configMapGenerator"][0]["files"]:
        assert (DEPLOY / "kubernetes" / name).is_file()
    pod = the("Deployment")["spec"]["template"]["spec"]
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert set(mounts) == set(volumes)
    generated = kustomization["configMapGenerator"][0]
    assert volumes["configuration"]["configMap"]["name"] == generated["name"]
    assert f"{mounts['configuration']}/{generated['files'][0]}" in pod["containers"][0]["args"]


def test_systemd_runs_commands_that_there_are() -> None:
    commands = re.findall(r"^Exec\w+=\S+/oplog-bridge (.*)$", UNIT, re.M)
    assert len(commands) == 2
    for command in commands:
        assert_is_a_command(shlex.split(command))


@pytest.mark.parametrize(
    "grace_seconds",
    [
        pytest.param(COMPOSE["services"]["bridge"]["stop_grace_period"].removesuffix("s"), id="compose"),
        pytest.param(re.search(r"TimeoutStopSec=(\d+)", UNIT).group(1), id="systemd"),
        pytest.param(KUBERNETES[0]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"], id="kubernetes"),
    ],
)
def test_nobody_kills_the_bridge_before_it_has_drained(grace_seconds: Any, tmp_path: Path) -> None:
    settings = load([compose_config(tmp_path)], {**CREDENTIALS, "OPLOG_URL": "https://host/api/v4/x"}).settings
    assert float(grace_seconds) > settings.shutdown_timeout


def the(kind: str) -> dict[str, Any]:
    (document,) = [document for document in KUBERNETES if document["kind"] == kind]
    return document


def test_containers_run_as_nobody_in_particular_and_write_nowhere_but_where_they_work() -> None:
    (user,) = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)
    (deployment,) = [document for document in KUBERNETES if document["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    bridge = COMPOSE["services"]["bridge"]

    assert user.isdecimal()
    assert user != "0"
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        writable = [mount for mount in container["volumeMounts"] if not mount.get("readOnly")]
        assert [mount["mountPath"] for mount in writable] == ["/var/lib/oplog-bridge"]
    assert bridge["read_only"] is True
    assert bridge["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in bridge["security_opt"]
