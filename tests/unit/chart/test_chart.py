"""What the chart renders, held against the code and against what a cluster asks for."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from services.cli import SERVICES, _settings_class
from services.core import topics
from services.runtime.plaintext import check_transport
from services.runtime.settings_table import setting_rows
from tests.unit.chart.conftest import CHART, Manifest, Refusal

WORKLOADS = ("Deployment", "StatefulSet", "Job")
SECRET_WORDS = re.compile(r"password|secret_key|access_key|client_secret|postgresql\+psycopg", re.IGNORECASE)


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    return [each for each in manifests if each["kind"] in kinds]


def named(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    [found] = [each for each in of_kind(manifests, kind) if each["metadata"]["name"] == f"sightline-{name}"]
    return found


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Any]]:
    for each in of_kind(manifests, *WORKLOADS):
        yield each["metadata"]["name"], each["spec"]["template"]["spec"]


def containers(manifests: list[Manifest]) -> Iterator[tuple[str, Any]]:
    for _, pod in pods(manifests):
        for each in [*pod.get("initContainers", []), *pod["containers"]]:
            yield each["name"], each


def config_of(manifests: list[Manifest], name: str) -> dict[str, Any]:
    loaded = yaml.safe_load(named(manifests, "ConfigMap", name)["data"]["config.yaml"])
    assert isinstance(loaded, dict)
    return loaded


def component(manifest: Manifest) -> str:
    return str(manifest["metadata"]["labels"]["app.kubernetes.io/component"])


# ---- settings


def test_every_variable_that_a_service_is_given_is_a_setting_of_its_code(manifests: list[Manifest]) -> None:
    known = {name: {row.variable for row in setting_rows(_settings_class(name))} for name in SERVICES}
    for name, container in containers(manifests):
        if name in SERVICES:
            given = {each["name"] for each in container["env"] if each["name"].startswith("SIGHTLINE_")}
            assert given - known[name] == {"SIGHTLINE_CONFIG"}, name


def test_every_service_would_start_with_what_the_chart_gives_it(
    manifests: list[Manifest], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    read = 0
    for each in of_kind(manifests, "Deployment", "StatefulSet"):
        name = each["metadata"]["name"]
        files = [c["data"]["config.yaml"] for c in of_kind(manifests, "ConfigMap") if c["metadata"]["name"] == name]
        if not files:
            # Its file comes from a Secret.
            continue
        container = each["spec"]["template"]["spec"]["containers"][-1]
        settings_class = _settings_class(container["name"])
        known = {row.variable for row in setting_rows(settings_class)}
        file = tmp_path / f"{name}.yaml"
        file.write_text(files[0])
        with monkeypatch.context() as environment:
            for variable in container["env"]:
                if variable["name"] in known:
                    environment.setenv(variable["name"], variable.get("value", "from-a-secret"))
            environment.setenv("SIGHTLINE_CONFIG", str(file))
            started = settings_class()
            # What a service looks at first: nothing leaves its pod in plain text, and callers show tokens.
            check_transport(started)
            settings = started.model_dump()
        assert settings["ops"] == {"host": "0.0.0.0", "port": 9100}
        assert settings["kafka"]["bootstrap_servers"].startswith("kafka")
        read += 1
    assert read >= len(SERVICES)


def test_who_calls_others_has_its_own_token_and_no_other(manifests: list[Manifest]) -> None:
    asking = {"outcome", "feedback", "trainer", "dashboard"}
    for each in of_kind(manifests, "Deployment", "StatefulSet"):
        pod = each["spec"]["template"]["spec"]
        names = {container["name"] for container in pod["containers"]}
        tokens = [volume["secret"] for volume in pod["volumes"] if volume["name"] == "token"]
        assert bool(tokens) == bool(names & asking), names
        for secret in tokens:
            (item,) = secret["items"]
            assert item["key"] in names | {"token"}
            assert item["path"] == "token"


def test_no_config_map_holds_a_secret(manifests: list[Manifest]) -> None:
    for each in of_kind(manifests, "ConfigMap"):
        assert not SECRET_WORDS.search("\n".join(each["data"].values())), each["metadata"]["name"]


def test_secrets_come_from_secrets_alone(manifests: list[Manifest]) -> None:
    for _, container in containers(manifests):
        for variable in container["env"]:
            if re.search(r"PASSWORD|SECRET|ACCESS_KEY|__URL$", variable["name"]):
                assert "secretKeyRef" in variable["valueFrom"], variable["name"]
    assert not of_kind(manifests, "Secret")


def test_large_numbers_are_written_out(every: dict[str, list[Manifest]]) -> None:
    for _, container in containers(every["gpu"]):
        for variable in container["env"]:
            assert not re.fullmatch(r"[0-9.]+e\+[0-9]+", variable.get("value", "")), variable["name"]
    assert config_of(every["gpu"], "detector")["max_in_flight_bytes"] == 64_000_000


def test_what_stays_with_a_member_lies_on_its_volume(every: dict[str, list[Manifest]]) -> None:
    manifests = every["minimal"]
    folders = {
        "ingest": config_of(manifests, "ingest")["spool"]["directory"],
        "outcome": config_of(manifests, "outcome")["data"],
        "trainer": config_of(manifests, "trainer")["work"],
    }
    for name, folder in folders.items():
        spec = named(manifests, "StatefulSet", name)["spec"]
        assert [claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]] == ["state"]
        mounts = {each["name"]: each["mountPath"] for each in spec["template"]["spec"]["containers"][0]["volumeMounts"]}
        assert folder.startswith(mounts["state"] + "/")


def test_a_changed_setting_rolls_the_pods(every: dict[str, list[Manifest]]) -> None:
    sums = {
        example: named(every[example], "Deployment", "detector")["spec"]["template"]["metadata"]["annotations"]
        for example in ("minimal", "gpu")
    }
    assert sums["minimal"]["checksum/config"] != sums["gpu"]["checksum/config"]


# ---- what a cluster asks for


def test_every_pod_meets_the_restricted_standard(manifests: list[Manifest]) -> None:
    for name, pod in pods(manifests):
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] == 10001, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys(), name
        allowed = {"configMap", "secret", "emptyDir", "persistentVolumeClaim", "projected", "csi", "downwardAPI"}
        assert all(set(volume) - {"name"} <= allowed for volume in pod["volumes"]), name
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False, name
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, name
            assert not any("hostPort" in port for port in container.get("ports", [])), name


def test_no_pod_writes_to_its_image_or_holds_a_token_of_the_cluster(manifests: list[Manifest]) -> None:
    for name, pod in pods(manifests):
        assert pod["automountServiceAccountToken"] is False, name
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
            assert "/tmp" in [mount["mountPath"] for mount in container["volumeMounts"]], name


def test_every_container_says_what_memory_it_needs_and_none_is_throttled(manifests: list[Manifest]) -> None:
    for name, container in containers(manifests):
        assert container["resources"]["requests"].keys() >= {"cpu", "memory"}, name
        assert "memory" in container["resources"]["limits"], name
        assert "cpu" not in container["resources"]["limits"], name


def test_every_mount_has_a_volume_and_every_volume_is_mounted(manifests: list[Manifest]) -> None:
    for each in of_kind(manifests, *WORKLOADS):
        pod = each["spec"]["template"]["spec"]
        volumes = [volume["name"] for volume in pod["volumes"]]
        volumes += [claim["metadata"]["name"] for claim in each["spec"].get("volumeClaimTemplates", [])]
        mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        assert len(volumes) == len(set(volumes)), each["metadata"]["name"]
        assert mounted == set(volumes), each["metadata"]["name"]


def test_every_selector_finds_the_pods_of_one_workload(manifests: list[Manifest]) -> None:
    labels = [
        each["spec"]["template"]["metadata"]["labels"] for each in of_kind(manifests, "Deployment", "StatefulSet")
    ]
    for each in of_kind(manifests, "Service", "PodDisruptionBudget", "Deployment", "StatefulSet", "PodMonitor"):
        selector = each["spec"]["selector"]
        selector = selector.get("matchLabels", selector)
        hits = [found for found in labels if selector.items() <= found.items()]
        assert len(hits) == 1, each["metadata"]["name"]


def test_every_service_port_is_a_port_of_its_pods(manifests: list[Manifest]) -> None:
    for each in of_kind(manifests, "Service"):
        owner = [
            w
            for w in of_kind(manifests, "Deployment", "StatefulSet")
            if w["metadata"]["name"] == each["metadata"]["name"]
        ]
        ports = {
            port["name"]: port["containerPort"]
            for container in owner[0]["spec"]["template"]["spec"]["containers"]
            for port in container["ports"]
        }
        for port in each["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"], each["metadata"]["name"]


# ---- rolling without loss


def test_every_pod_has_the_time_that_its_drain_takes(manifests: list[Manifest]) -> None:
    looked_at = 0
    for each in of_kind(manifests, "Deployment", "StatefulSet"):
        configs = [c for c in of_kind(manifests, "ConfigMap") if c["metadata"]["name"] == each["metadata"]["name"]]
        for found in configs:
            config = yaml.safe_load(found["data"]["config.yaml"])
            grace_s = each["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
            assert grace_s >= config["drain_s"] + config["probe_propagation_s"] + 10
            assert config["probe_propagation_s"] > 0
            looked_at += 1
    assert looked_at >= len(SERVICES)


def test_no_old_pod_goes_before_the_new_one_is_ready(manifests: list[Manifest]) -> None:
    for each in of_kind(manifests, "Deployment"):
        assert each["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0, each["metadata"]["name"]


def test_a_drain_that_the_service_would_refuse_is_refused(refusal: Refusal) -> None:
    assert "drain_s" in refusal("--set", "detector.config.drain_s=601")


# ---- Triton and its agent


def test_a_triton_pod_is_ready_when_its_agent_is(manifests: list[Manifest]) -> None:
    pod = named(manifests, "StatefulSet", "triton")["spec"]["template"]["spec"]
    by_name = {each["name"]: each for each in pod["containers"]}
    assert by_name["serving"]["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert "readinessProbe" not in by_name["triton"]
    assert "startupProbe" in by_name["triton"]


def test_agent_and_triton_see_the_same_folders(manifests: list[Manifest]) -> None:
    config = config_of(manifests, "triton")
    pod = named(manifests, "StatefulSet", "triton")["spec"]["template"]["spec"]
    mounts = [{m["name"]: m["mountPath"] for m in each["volumeMounts"]} for each in pod["containers"]]
    assert mounts[0]["models"] == mounts[1]["models"] == config["repository"]
    assert mounts[0]["state"] == mounts[1]["state"]
    assert config["data"].startswith(mounts[0]["state"] + "/")


def test_detectors_are_told_every_triton_by_its_own_name(every: dict[str, list[Manifest]]) -> None:
    assert config_of(every["gpu"], "detector")["triton"]["urls"] == (
        "sightline-triton-0.sightline-triton.plant.svc:8001,sightline-triton-1.sightline-triton.plant.svc:8001"
    )
    assert named(every["gpu"], "Service", "triton")["spec"]["clusterIP"] == "None"


def test_gpus_are_asked_for_where_models_run_on_them(every: dict[str, list[Manifest]]) -> None:
    for example, device in (("gpu", "gpu"), ("minimal", "cpu")):
        triton = named(every[example], "StatefulSet", "triton")["spec"]["template"]["spec"]["containers"][0]
        assert config_of(every[example], "triton")["placement"]["device"] == device
        assert triton["resources"]["limits"].get("nvidia.com/gpu", 0) == (1 if device == "gpu" else 0)


def test_triton_encrypts_where_tls_is_on(every: dict[str, list[Manifest]]) -> None:
    arguments = {
        example: named(every[example], "StatefulSet", "triton")["spec"]["template"]["spec"]["containers"][0]["args"]
        for example in ("minimal", "multi-line")
    }
    assert "--grpc-use-ssl-mutual=true" in arguments["minimal"]
    assert not any("ssl" in each for each in arguments["multi-line"])
    assert all("--http-address=127.0.0.1" in each for each in arguments.values())


# ---- scaling


def test_scaling_follows_topics_and_groups_of_the_code(every: dict[str, list[Manifest]]) -> None:
    followed = {
        each["metadata"]["name"]: (
            each["spec"]["triggers"][0]["metadata"]["topic"],
            each["spec"]["triggers"][0]["metadata"]["consumerGroup"],
        )
        for each in of_kind(every["gpu"], "ScaledObject")
    }
    assert followed == {
        "sightline-detector": (topics.FRAMES, "detector"),
        "sightline-explainer": (topics.CASES, "explainer"),
    }


def test_a_scaled_deployment_leaves_its_replicas_to_the_scaler(every: dict[str, list[Manifest]]) -> None:
    scaled = {
        each["spec"]["scaleTargetRef"]["name"]
        for each in of_kind(every["gpu"], "ScaledObject", "HorizontalPodAutoscaler")
    }
    assert scaled == {"sightline-detector", "sightline-explainer", "sightline-feedback"}
    for each in of_kind(every["gpu"], "Deployment"):
        assert ("replicas" in each["spec"]) == (each["metadata"]["name"] not in scaled)


def test_the_scaler_signs_in_as_the_services_do(every: dict[str, list[Manifest]]) -> None:
    [trigger] = named(every["gpu"], "ScaledObject", "detector")["spec"]["triggers"]
    assert (trigger["metadata"]["sasl"], trigger["metadata"]["tls"]) == ("scram_sha512", "enable")
    keys = named(every["gpu"], "TriggerAuthentication", "detector-kafka")["spec"]["secretTargetRef"]
    assert {each["parameter"] for each in keys} == {"username", "password", "ca"}


# ---- network


def allowed(manifests: list[Manifest]) -> set[tuple[str, str, int]]:
    """Who may call whom at which port, within the release, as seen by those who are called."""
    found = set()
    for policy in of_kind(manifests, "NetworkPolicy"):
        target = policy["spec"]["podSelector"].get("matchLabels", {}).get("app.kubernetes.io/component", "")
        for rule in policy["spec"].get("ingress", []):
            for peer in rule["from"]:
                for expression in peer.get("podSelector", {}).get("matchExpressions", []):
                    found |= {(who, target, port["port"]) for who in expression["values"] for port in rule["ports"]}
    return found


def test_services_may_call_exactly_these(every: dict[str, list[Manifest]]) -> None:
    ops = {("dashboard", each, 9100) for each in ("ingest", "detector", "outcome", "explainer", "feedback", "trainer")}
    assert allowed(every["minimal"]) == ops | {
        ("outcome", "ingest", 50051),
        ("feedback", "detector", 50051),
        ("dashboard", "explainer", 50051),
        ("dashboard", "feedback", 50051),
        ("dashboard", "trainer", 50051),
        ("dashboard", "outcome", 50051),
        ("detector", "triton", 8001),
        ("explainer", "triton", 8001),
        ("trainer", "triton", 50051),
    }


def test_whoever_may_be_called_may_be_reached_by_the_caller(manifests: list[Manifest]) -> None:
    reached = set()
    for policy in of_kind(manifests, "NetworkPolicy"):
        who = policy["spec"]["podSelector"].get("matchLabels", {}).get("app.kubernetes.io/component", "")
        for rule in policy["spec"].get("egress", []):
            for peer in rule.get("to", []):
                selector = peer.get("podSelector", {})
                names = [name for each in selector.get("matchExpressions", []) for name in each["values"]]
                names += [selector.get("matchLabels", {}).get("app.kubernetes.io/component", "")]
                reached |= {(who, name, port["port"]) for name in names if name for port in rule["ports"]}
    assert reached == allowed(manifests)


def test_everything_else_is_refused_to_every_pod(manifests: list[Manifest]) -> None:
    spec = named(manifests, "NetworkPolicy", "default-deny")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert not {"ingress", "egress"} & spec.keys()
    for each in of_kind(manifests, *WORKLOADS):
        assert spec["podSelector"]["matchLabels"].items() <= each["spec"]["template"]["metadata"]["labels"].items()


def test_a_plc_alone_reaches_its_port(every: dict[str, list[Manifest]]) -> None:
    rules = named(every["multi-line"], "NetworkPolicy", "outcome-line-1")["spec"]["ingress"]
    [rule] = [each for each in rules if each["ports"][0]["port"] == 1502]
    assert rule["from"] == [{"ipBlock": {"cidr": "10.1.0.5/32"}}]


# ---- trainings


def test_a_training_starts_the_module_that_trains_in_the_folder_of_its_run(every: dict[str, list[Manifest]]) -> None:
    [job] = [each for each in of_kind(every["gpu"], "Job") if component(each) == "training"]
    [container] = job["spec"]["template"]["spec"]["containers"]
    command = container["command"]
    assert command[0] == "torchrun"
    assert importlib.util.find_spec(command[command.index("-m") + 1]) is not None
    assert container["args"] == [f"{config_of(every['gpu'], 'trainer')['work']}/runs/default/20270131-1"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 2


# ---- lines, hooks, monitoring


def test_each_line_has_an_ingest_of_its_own(every: dict[str, list[Manifest]]) -> None:
    manifests = every["multi-line"]
    cameras = {n: config_of(manifests, f"ingest-line-{n}")["cameras"][0]["camera_id"] for n in (1, 2)}
    assert cameras == {1: "cam-11", 2: "cam-21"}
    assert config_of(manifests, "outcome-line-1")["ingest"]["address"] == "sightline-ingest-line-1.plant.svc:50051"


def test_topics_are_there_before_the_schema_and_both_before_the_services(every: dict[str, list[Manifest]]) -> None:
    hooks = {component(each): each["metadata"]["annotations"] for each in of_kind(every["minimal"], "Job")}
    assert {each["helm.sh/hook"] for each in hooks.values()} == {"pre-install,pre-upgrade"}
    assert int(hooks["topics"]["helm.sh/hook-weight"]) < int(hooks["migrate"]["helm.sh/hook-weight"])


def test_hooks_need_nothing_that_the_release_brings(manifests: list[Manifest]) -> None:
    for each in of_kind(manifests, "Job"):
        pod = each["spec"]["template"]["spec"]
        assert "serviceAccountName" not in pod
        assert not any("configMap" in volume for volume in pod["volumes"])


def test_prometheus_asks_every_workload_over_tls(every: dict[str, list[Manifest]]) -> None:
    monitors = of_kind(every["gpu"], "ServiceMonitor")
    assert {component(each) for each in monitors} == (set(SERVICES) - {"serving"}) | {"triton"}
    for each in monitors:
        [endpoint] = each["spec"]["endpoints"]
        assert (endpoint["port"], endpoint["scheme"]) == ("ops", "https")


def test_rules_and_dashboards_are_those_of_the_files(every: dict[str, list[Manifest]]) -> None:
    rules = {each["metadata"]["name"]: each["spec"] for each in of_kind(every["gpu"], "PrometheusRule")}
    files = {f"sightline-{f.stem}": yaml.safe_load(f.read_text()) for f in (CHART / "files/rules").glob("*.yaml")}
    assert rules == files
    boards = {n for each in of_kind(every["gpu"], "ConfigMap") for n in each["data"] if n.endswith(".json")}
    assert boards == {each.name for each in (CHART / "files" / "dashboards").glob("*.json")}


def test_each_certificate_names_its_service_and_tritons_each_pod(every: dict[str, list[Manifest]]) -> None:
    for each in of_kind(every["gpu"], "Certificate"):
        name = each["metadata"]["name"]
        assert f"{name}.plant.svc" in each["spec"]["dnsNames"]
        assert each["spec"]["secretName"] == f"{name}-tls"
    assert "*.sightline-triton.plant.svc" in named(every["gpu"], "Certificate", "triton")["spec"]["dnsNames"]


def test_every_image_comes_from_the_registry_that_the_values_name(every: dict[str, list[Manifest]]) -> None:
    for _, pod in pods(every["air-gapped"]):
        assert pod["imagePullSecrets"] == [{"name": "registry"}]
        assert all(c["image"].startswith("registry.plant.example/sightline/sightline-") for c in pod["containers"])


# ---- refusals


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("detectr.replicas=2", "detectr"),
        ("detector.replica=2", "replica"),
        ("detector.config.batch.max_frame=2", "max_frame"),
        ("detector.config.kafka.sasl_password=x", "sasl_password"),
        ("detector.config.ops.port=1", "ops"),
        ("kafka.config.bootstrap_server=x", "bootstrap_server"),
        ("objectStore.config.secret_key=x", "secret_key"),
        ("ingest.instances.a.replicas=2", "replicas"),
        ("topics.partitions=0", "partitions"),
        ("plaintext=everywhere", "plaintext"),
        ("ingest.replicas=2", "ingest.instances"),
        ("tls.enabled=false", "plaintext must be mesh"),
        ("index.existingSecret=", "index.existingSecret"),
        ("kafka.config.bootstrap_servers=", "bootstrap_servers"),
        ("ingress.enabled=true", "ingress.host"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(refusal: Refusal, wrong: str, told: str) -> None:
    assert told in refusal("--set", wrong)


def test_right_values_are_not_refused(refusal: Refusal) -> None:
    assert refusal("--set", "detector.replicas=3,detector.config.batch.max_frames=32") == ""
