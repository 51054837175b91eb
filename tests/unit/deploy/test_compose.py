"""The compose files: their settings are the code's, no secret has a default, and every container is bounded."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import ssl
import stat
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from services.cli import SERVICES, _settings_class
from services.core.machine_token import TOKEN_PREFIX
from services.local.linefile import CommandSettings
from services.local.tools import REPOSITORY_ROOT
from services.runtime.plaintext import check_transport
from services.runtime.settings import load_settings
from services.runtime.settings_table import setting_rows

COMPOSE = REPOSITORY_ROOT / "docker-compose.yml"
THREE = REPOSITORY_ROOT / "docker-compose.kafka3.yml"
EXAMPLE = REPOSITORY_ROOT / ".env.example"
SCHEMA = REPOSITORY_ROOT / ".tools/dclint/node_modules/dclint/schemas/compose.schema.json"

#: Run one of our commands and end; read what commands read.
ONCE = ("topics", "migrate", "starter", "users")
#: Variables that are not settings: which service an image holds, and where its settings file lies.
NO_SETTINGS = {"SIGHTLINE_CONFIG", "SIGHTLINE_SERVICE"}
SECRET = re.compile(r"PASSWORD|SECRET|ACCESS_KEY|CLUSTER_ID")
VARIABLE = re.compile(r"\$\{(\w+)(:[-?][^}]*)?\}")


def load_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compose_schema", REPOSITORY_ROOT / "deploy" / "compose_schema.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCHEMA_CHECK = load_module()


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = SCHEMA_CHECK.load_compose(COMPOSE)
    return found


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose["services"]
    return found


def own_name(name: str) -> str:
    """The service that a container runs: both serving agents are one."""
    return name.partition("-")[0]


def variables(service: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in service.get("environment", {}).items() if name.startswith("SIGHTLINE_")}


def known_settings(name: str) -> set[str]:
    own = own_name(name)
    settings = _settings_class(own) if own in SERVICES else CommandSettings
    return {row.variable for row in setting_rows(settings)} | NO_SETTINGS


def test_every_service_of_the_line_is_there(services: dict[str, Any]) -> None:
    assert {own_name(name) for name in services} >= {
        *SERVICES,
        "triton",
        "kafka",
        "s3",
        "postgres",
        "prometheus",
        "alertmanager",
        "grafana",
    }


def test_every_variable_is_a_setting_of_the_service_that_gets_it(services: dict[str, Any]) -> None:
    asked = [name for name in services if own_name(name) in SERVICES or name in ONCE]
    assert len(asked) >= len(SERVICES) + len(ONCE)
    unknown = {name: sorted(variables(services[name]).keys() - known_settings(name)) for name in asked}
    assert {name: found for name, found in unknown.items() if found} == {}


@pytest.mark.parametrize("name", [*SERVICES[:-2], "serving-cpu", "serving-gpu", "dashboard"])
def test_every_service_would_start_with_what_compose_gives_it(
    name: str, services: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = own_name(name)
    for variable, value in variables(services[name]).items():
        # Compose fills these in; which value it is, is nothing to the rules.
        monkeypatch.setenv(
            variable, VARIABLE.sub(lambda found: found.group(2)[2:] if ":-" in found.group(0) else "x", value)
        )
    if "SIGHTLINE_CONFIG" in variables(services[name]):
        monkeypatch.setenv("SIGHTLINE_CONFIG", str(REPOSITORY_ROOT / "deploy" / "compose" / f"{own}.yaml"))
    # As the image says.
    monkeypatch.setenv("SIGHTLINE_OPS__HOST", "0.0.0.0")
    monkeypatch.setenv("SIGHTLINE_GRPC__HOST", "0.0.0.0")
    check_transport(load_settings(_settings_class(own)))


def test_the_example_of_the_environment_has_every_variable_and_no_other() -> None:
    asked = {match[0] for path in (COMPOSE, THREE) for match in VARIABLE.findall(path.read_text())}
    told = set(re.findall(r"^(\w+)=", EXAMPLE.read_text(), re.MULTILINE))
    assert asked == told


def test_no_secret_has_a_default() -> None:
    for path in (COMPOSE, THREE):
        for name, default in VARIABLE.findall(path.read_text()):
            if SECRET.search(name):
                assert default.startswith(":?"), f"{path.name}: {name} must be asked for, got {default!r}"
    for name, value in re.findall(r"^(\w+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE):
        assert not (SECRET.search(name) and value), f"{name} must be empty in the example, got {value!r}"


def test_defaults_in_compose_are_those_of_the_example() -> None:
    told = dict(re.findall(r"^(\w+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE))
    for name, default in VARIABLE.findall(COMPOSE.read_text()):
        if default.startswith(":-"):
            assert told[name] == default[2:], name


def test_every_container_is_bounded_and_has_no_rights_that_it_does_not_need(services: dict[str, Any]) -> None:
    for name, service in services.items():
        limits = service["deploy"]["resources"]["limits"]
        assert {"cpus", "memory"} <= limits.keys(), name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service["cap_drop"] == ["ALL"], name
        assert "privileged" not in service, name
        assert service["logging"]["options"]["max-size"], name
        if name not in ("prepare", "postgres"):
            assert "cap_add" not in service, name
            assert service["user"].partition(":")[0] not in ("", "0", "root"), name


def test_what_is_ours_cannot_write_to_its_image(services: dict[str, Any]) -> None:
    ours = [name for name in services if own_name(name) in {*SERVICES, "triton"} or name in ONCE or name == "prepare"]
    for name in ours:
        assert services[name]["read_only"] is True, name


def test_what_runs_for_good_says_how_it_is_and_comes_back(services: dict[str, Any]) -> None:
    for name, service in services.items():
        if service["restart"] == "no":
            assert name in (*ONCE, "prepare")
            continue
        assert service["restart"] == "unless-stopped", name
        assert service["healthcheck"]["test"][0] == "CMD", f"{name}: no shell between the check and its answer"


def test_a_container_has_longer_to_stop_than_a_service_takes_to_finish(services: dict[str, Any]) -> None:
    for name in (name for name in services if own_name(name) in SERVICES):
        drain_s = float(services[name]["environment"]["SIGHTLINE_DRAIN_S"])
        assert float(services[name]["stop_grace_period"].rstrip("s")) > drain_s + 5, name


def waits_for(service: Mapping[str, Any]) -> Iterator[str]:
    yield from service.get("depends_on", {})
    mode = str(service.get("network_mode", ""))
    if mode.startswith("service:"):
        yield mode.partition(":")[2]


def test_nobody_waits_in_a_circle_or_for_what_is_not_there(services: dict[str, Any]) -> None:
    done: set[str] = set()
    waiting = dict(services)
    while waiting:
        free = [name for name, service in waiting.items() if set(waits_for(service)) <= done]
        assert free, f"these wait for each other or for nobody: {sorted(waiting)}"
        done |= set(free)
        for name in free:
            del waiting[name]


def test_who_waits_waits_for_an_end_or_for_health(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            ends = services[other]["restart"] == "no"
            assert how["condition"] == ("service_completed_successfully" if ends else "service_healthy"), (name, other)


def test_only_pages_are_published_and_on_loopback_unless_told_otherwise(services: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert set(published) == {"dashboard", "grafana"}
    for ports in published.values():
        assert all(port.startswith("${DASHBOARD_ADDRESS:-127.0.0.1}:") for port in ports)


def test_nothing_goes_between_containers_in_plain_text(services: dict[str, Any]) -> None:
    for name in (name for name in services if own_name(name) in SERVICES):
        environment = services[name]["environment"]
        assert environment["SIGHTLINE_KAFKA__SECURITY_PROTOCOL"] == "SASL_SSL", name
        assert environment["SIGHTLINE_TLS__CERTIFICATE_FILE"], name
        assert environment.get("SIGHTLINE_OBJECT_STORE__SECURE", "true") == "true", name
        for variable, value in environment.items():
            if variable.endswith("__URL") and "postgresql" in str(value):
                assert "sslmode=verify-full" in value, (name, variable)
    assert "--grpc-use-ssl-mutual=1" in services["triton-cpu"]["command"]
    for path, service in ((COMPOSE, "kafka"), (THREE, "kafka"), (THREE, "kafka-2"), (THREE, "kafka-3")):
        environment = SCHEMA_CHECK.load_compose(path)["services"][service]["environment"]
        kinds = dict(pair.split(":") for pair in environment["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(","))
        heard = re.findall(r"(\w+)://([^:]*):", environment["KAFKA_LISTENERS"])
        for listener, host in heard:
            assert host == "127.0.0.1" or kinds[listener].endswith("SSL"), (path.name, service, listener)


def test_three_brokers_keep_three_copies_and_acknowledge_two() -> None:
    services = SCHEMA_CHECK.load_compose(THREE)["services"]
    assert services["topics"]["environment"] == {
        "SIGHTLINE_TOPICS__REPLICATION_FACTOR": "3",
        "SIGHTLINE_TOPICS__MIN_INSYNC_REPLICAS": "2",
    }
    ids = {services[name]["environment"].get("KAFKA_NODE_ID", "1") for name in ("kafka", "kafka-2", "kafka-3")}
    assert ids == {"1", "2", "3"}


@pytest.mark.skipif(not SCHEMA.exists(), reason="the schema of compose files comes with make check")
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"services": {"a": {"imag": "x"}}}, "'imag' does not match"),
        ({"services": {"a": {"healthcheck": {"interval": 5}}}}, "5 is not of type 'string'"),
        ({"service": {}}, "'service' does not match"),
    ],
)
def test_what_compose_would_not_read_is_found(change: dict[str, Any], told: str) -> None:
    found = SCHEMA_CHECK.problems(json.loads(SCHEMA.read_text()), change)
    assert any(told in problem for problem in found), found


@pytest.mark.parametrize(("service", "name"), [("ingest", "ingest.yaml"), ("outcome", "outcome.yaml")])
def test_the_examples_of_a_line_are_settings_that_the_service_takes(
    service: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = REPOSITORY_ROOT / "deploy" / "compose" / name
    monkeypatch.setenv("SIGHTLINE_CONFIG", str(path))
    load_settings(_settings_class(service))
    unknown = yaml.safe_load(path.read_text()).keys() - _settings_class(service).model_fields.keys()
    assert not unknown


# ---- passwords, certificates and tokens are made, not shipped


def run(*command: str | Path, cwd: Path = REPOSITORY_ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False, timeout=60
    )


def test_the_environment_is_written_with_secrets_of_its_own_and_never_over_another(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert run("deploy/env-file", first).returncode == 0
    assert run("deploy/env-file", second).returncode == 0
    values = [dict(re.findall(r"^(\w+)=(.*)$", path.read_text(), re.MULTILINE)) for path in (first, second)]
    for name in values[0]:
        if SECRET.search(name):
            assert len(values[0][name]) >= 20, name
            assert values[0][name] != values[1][name], name
    assert values[0]["PUBLIC_HOST"]
    assert re.fullmatch(r"[A-Za-z0-9_-]{22}", values[0]["KAFKA_CLUSTER_ID"])
    assert stat.S_IMODE(first.stat().st_mode) == 0o600
    before = first.read_text()
    again = run("deploy/env-file", first)
    assert again.returncode == 1
    assert "stays as it is" in again.stderr
    assert first.read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if os.geteuid() != 0:
        pytest.skip("gives each key to its container's user, which takes root")
    folder = tmp_path_factory.mktemp("certificates")
    done = run("deploy/compose/certificates", folder, "wall.plant.example", "10.0.0.5")
    assert done.returncode == 0, done.stderr
    return folder


def test_every_container_that_mounts_an_identity_finds_one(identities: Path, services: dict[str, Any]) -> None:
    mounted = [
        (volume["volume"]["subpath"], service.get("user", "999"))
        for service in services.values()
        for volume in service.get("volumes", [])
        if isinstance(volume, dict) and volume["source"] == "certificates"
    ]
    assert len(mounted) >= len(SERVICES)
    for subpath, user in mounted:
        key = identities / subpath / "tls.key"
        assert str(key.stat().st_uid) == user.partition(":")[0], subpath
        assert stat.S_IMODE(key.stat().st_mode) == 0o400, subpath
        assert (identities / subpath / "ca.crt").is_file(), subpath


def test_certificates_hold_under_the_installations_authority_and_no_other(identities: Path) -> None:
    for name in ("feedback", "triton", "kafka", "s3"):
        folder = identities / name
        context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
        context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
        told = run("openssl", "verify", "-CAfile", folder / "ca.crt", "-verify_hostname", name, folder / "tls.crt")
        assert told.returncode == 0, told.stderr
    dashboard = identities / "dashboard"
    for host in ("-verify_hostname=wall.plant.example", "-verify_ip=10.0.0.5"):
        option, _, value = host.partition("=")
        told = run("openssl", "verify", "-CAfile", dashboard / "ca.crt", option, value, dashboard / "tls.crt")
        assert told.returncode == 0, told.stderr


def test_a_second_run_renews_nothing_that_still_holds(identities: Path) -> None:
    before = {path: path.read_bytes() for path in identities.rglob("*") if path.is_file()}
    done = run("deploy/compose/certificates", identities, "wall.plant.example", "10.0.0.5")
    assert (done.returncode, done.stdout) == (0, "")
    assert {path: path.read_bytes() for path in identities.rglob("*") if path.is_file()} == before


def test_a_certificate_that_ends_soon_is_renewed_with_a_new_key(identities: Path) -> None:
    folder = identities / "detector"
    key = (folder / "tls.key").read_bytes()
    short = run(
        *("openssl", "req", "-x509", "-key", folder / "tls.key", "-subj", "/CN=detector", "-days", "3"),
        *("-out", folder / "tls.crt"),
    )
    assert short.returncode == 0, short.stderr
    done = run("deploy/compose/certificates", identities)
    assert done.stdout == "made the certificate of detector\n"
    assert (folder / "tls.key").read_bytes() != key


def test_a_renewal_that_was_cut_off_between_key_and_certificate_is_done_again(identities: Path) -> None:
    folder = identities / "explainer"
    run("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", folder / "tls.key")
    done = run("deploy/compose/certificates", identities)
    assert done.stdout == "made the certificate of explainer\n"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")


def test_each_service_that_asks_others_has_a_token_whose_hash_alone_the_others_know(
    identities: Path, services: dict[str, Any]
) -> None:
    import hashlib

    told = {one["name"]: one for one in yaml.safe_load((identities / "feedback" / "tokens.yaml").read_text())["tokens"]}
    asking = {name for name, service in services.items() if "SIGHTLINE_TOKEN_FILE" in service.get("environment", {})}
    assert set(told) == asking
    for name, entry in told.items():
        secret = (identities / name / "token").read_text()
        assert entry["sha256"] == hashlib.sha256(secret.encode()).hexdigest()
        assert secret.startswith(TOKEN_PREFIX)
        assert len(secret) == len(TOKEN_PREFIX) + 64
        for other in (folder for folder in identities.iterdir() if folder.name != name):
            assert not any(secret in path.read_text() for path in other.rglob("*") if path.is_file()), other
