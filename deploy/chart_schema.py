"""Writes what the chart's values may be, and its README, from the settings and from ``values.yaml``.

``config`` blocks take what the services' settings take and nothing else, so that helm refuses a misspelt setting before
anything is installed. Left out of them: secrets, which come from Secrets, and what the chart itself wires to ports and
mounts.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import yaml

from services.cli import SERVICES, _settings_class
from services.runtime.settings import KafkaSettings, ObjectStoreSettings

CHART = Path(__file__).resolve().parents[1] / "charts" / "sightline"
DRAFT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]

#: Set by the chart where it makes ports, mounts and Secrets; in a file they would have no effect.
_WIRED = {
    "ops",
    "tls",
    "plaintext",
    "token_file",
    "grpc.host",
    "grpc.port",
    "grpc.tokens_file",
    "grpc.client_certificates",
    "web.mode",
    "web.host",
    "web.port",
    "triton.tls",
    "kafka.ssl_ca_file",
    "kafka.ssl_certificate_file",
    "kafka.ssl_key_file",
    "kafka.sasl_username",
    "object_store.ca_file",
}
_RELEASE_WIDE_KAFKA = {"group"}
#: Which values count how much at least.
_AT_LEAST = {
    "gpus": 0,
    "replicas": 0,
    "replicationFactor": -1,
    "minInsyncReplicas": 0,
    "maxUnavailable": 0,
    "graceSeconds": 10,
}
_ONE_OF = {
    "plaintext": ["loopback", "mesh"],
    "tls.clientCertificates": ["required", "none"],
    "pullPolicy": ["Always", "IfNotPresent", "Never"],
    "autoscaling.kind": ["keda", "hpa"],
    "persistence.accessMode": ["ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany"],
    "service.type": ["ClusterIP", "NodePort", "LoadBalancer"],
}
#: Written as Kubernetes writes them; its own schema checks what is rendered.
_KUBERNETES = {
    "resources",
    "nodeSelector",
    "tolerations",
    "affinity",
    "topologySpreadConstraints",
    "annotations",
    "podAnnotations",
    "podLabels",
    "labels",
    "extraVolumes",
    "extraVolumeMounts",
    "extraIngress",
    "extraEgress",
    "prometheus",
    "ingressController",
    "to",
    "imagePullSecrets",
    "env",
}
#: Keys that some services' blocks hold beside those of ``defaults``.
_OWN = {"ingest": {"instances"}, "outcome": {"instances"}, "dashboard": {"oidcSecret"}}
_WITHOUT_INSTANCES = {"enabled", "replicas", "instances", "autoscaling"}
_PORT = {"type": "integer", "minimum": 1, "maximum": 65_535}
_EXTRA_PORT: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "port", "from"],
    "properties": {
        "name": {"type": "string", "maxLength": 15, "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"},
        "port": _PORT,
        "protocol": {"enum": ["TCP", "UDP"]},
        # Without an address everybody could connect to a PLC's port.
        "from": {"type": "array", "minItems": 1, "items": {"type": "string", "pattern": "/[0-9]+$"}},
    },
}


def values_schema() -> Schema:
    """The schema of ``values.yaml``, strict in every block of ours.

    Returns:
        A JSON schema; each service's settings are among its definitions.
    """
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    definitions: Schema = {}
    for service in SERVICES:
        definitions |= _settings(service, _settings_class(service).model_json_schema())
    for group, model in (("kafka-group", KafkaSettings), ("store-group", ObjectStoreSettings)):
        name = {"kafka-group": "kafka", "store-group": "object_store"}[group]
        wrapped = {"properties": {name: {"$ref": f"#/$defs/{model.__name__}"}}, "$defs": {}}
        wrapped["$defs"] = {model.__name__: model.model_json_schema()}
        definitions |= _settings(group, wrapped)
        definitions[group] = definitions[f"{group}.{model.__name__}"]
    for name in _RELEASE_WIDE_KAFKA:
        definitions["kafka-group"]["properties"].pop(name)
    # A null takes a value of the chart away.
    definitions["kafka-group"] = _nullable(definitions["kafka-group"])
    definitions["store-group"] = _nullable(definitions["store-group"])
    schema = _block(values, "")
    defaults = schema["properties"]["defaults"]
    for service in SERVICES:
        block = json.loads(json.dumps(defaults))
        block["properties"]["config"] = {"$ref": f"#/$defs/{service}"}
        for key in _OWN.get(service, set()) - {"instances"}:
            block["properties"][key] = {"type": "string"}
        if "instances" in _OWN.get(service, set()):
            each = json.loads(json.dumps(block))
            each["properties"] = {k: v for k, v in each["properties"].items() if k not in _WITHOUT_INSTANCES}
            block["properties"]["instances"] = {
                "type": "object",
                "propertyNames": {"pattern": "^[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?$"},
                "additionalProperties": each,
            }
        schema["properties"][service] = block
    # Of all services at once only what each of them has.
    defaults["properties"]["config"] = {"type": "object", "maxProperties": 0}
    schema["properties"]["kafka"]["properties"]["config"] = {"$ref": "#/$defs/kafka-group"}
    schema["properties"]["objectStore"]["properties"]["config"] = {"$ref": "#/$defs/store-group"}
    # Helm hands these over by itself.
    schema["properties"]["global"] = {"type": "object"}
    return {"$schema": DRAFT, "title": "Sightline", **schema, "$defs": dict(sorted(definitions.items()))}


def _settings(prefix: str, schema: Schema) -> Schema:
    """Definitions of one service's settings, without secrets and what is wired, names prefixed by the service."""
    inner: Schema = schema.pop("$defs", {})
    secret = {name for name, each in inner.items() if each.get("format") == "password"}
    for path in _WIRED:
        first, _, second = path.partition(".")
        if not second:
            schema["properties"].pop(first, None)
        elif first in schema["properties"]:
            reference = json.dumps(schema["properties"][first]).partition("#/$defs/")[2].partition('"')[0]
            inner.get(reference, {}).get("properties", {}).pop(second, None)
    found = {prefix: schema} | {f"{prefix}.{name}": each for name, each in inner.items() if name not in secret}
    for name, each in found.items():
        if "properties" in each:
            _without_secrets(each)
            each["additionalProperties"] = False
        if name == prefix:
            # What is needed may come from a Secret, or from an instance.
            each.pop("required", None)
        _shortened(each, prefix)
    return found


def _without_secrets(schema: Schema) -> None:
    for name, each in list(schema["properties"].items()):
        if '"format": "password"' in json.dumps(each):
            del schema["properties"][name]
            if name in schema.get("required", []):
                schema["required"].remove(name)


def _shortened(node: Any, prefix: str) -> None:
    """Point references at the prefixed names, and drop what checks nothing."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            node["$ref"] = node["$ref"].replace("#/$defs/", f"#/$defs/{prefix}.")
        for key in ("title", "default", "discriminator", "format"):
            # A setting may itself be called so; its schema says a type or points at one.
            if not (isinstance(node.get(key), dict) and {"type", "$ref", "anyOf", "enum"} & node[key].keys()):
                node.pop(key, None)
        for each in node.values():
            _shortened(each, prefix)
    elif isinstance(node, list):
        for each in node:
            _shortened(each, prefix)


def _nullable(group: Schema) -> Schema:
    group["properties"] = {name: {"anyOf": [each, {"type": "null"}]} for name, each in group["properties"].items()}
    return group


def _block(value: Any, path: str) -> Schema:
    """The schema of one of our own values, by the kind of its default."""
    key = path.rpartition(".")[2]
    for name, choices in _ONE_OF.items():
        if path == name or path.endswith("." + name):
            return {"enum": choices}
    schema: Schema = {"type": "string"}
    if key == "extraPorts":
        schema = {"type": "array", "items": _EXTRA_PORT}
    elif key in _KUBERNETES:
        schema = {"type": "array" if isinstance(value, list) else "object"}
    elif isinstance(value, bool):
        schema = {"type": "boolean"}
    elif isinstance(value, int):
        schema = {"type": "number" if key.endswith("Hours") else "integer", "minimum": _AT_LEAST.get(key, 1)}
    elif isinstance(value, list):
        schema = {"type": "array", "items": _PORT if key == "ports" else {"type": "string"}}
    elif isinstance(value, dict):
        inner = {name: _block(each, f"{path}.{name}".lstrip(".")) for name, each in value.items()}
        schema = {"type": "object", "additionalProperties": False, "properties": inner}
    return schema


def readme() -> str:
    """The chart's README: every value with its default and what the comment above it says."""
    lines = [
        "# Sightline's Helm chart",
        "",
        "Written by `deploy/chart-schema` from `values.yaml`; how to install it is in",
        "[Install on Kubernetes](../../docs/install-on-kubernetes.md), what changes between versions in",
        "[UPGRADING.md](UPGRADING.md), examples in [ci/](ci/). Kafka, S3 and PostgreSQL are yours; none is embedded.",
        "",
        "Each service (`ingest`, `detector`, `outcome`, `explainer`, `feedback`, `trainer`, `serving`, `dashboard`)",
        "has a block that may hold each key of `defaults`. Unknown keys and misspelt settings are refused.",
        "",
        "| Value | Default | Meaning |",
        "|---|---|---|",
    ]
    for path, default, meaning in documented_values((CHART / "values.yaml").read_text()):
        shown = json.dumps(default, ensure_ascii=False)
        lines.append(f"| `{path}` | `{shown}` | {meaning.replace('|', chr(92) + '|')} |")
    return "\n".join(lines) + "\n"


def documented_values(text: str) -> list[tuple[str, Any, str]]:
    """Path, default and comment of each value that a ``# --`` line stands above.

    Args:
        text: The values file.

    Raises:
        ValueError: If a value has no such line above it or above a block that holds it.
    """
    found: list[tuple[str, Any, str]] = []
    values = yaml.safe_load(text)
    stack: list[tuple[int, str]] = []
    comment, covered = "", -1
    for line in text.splitlines():
        bare = line.strip()
        indent = len(line) - len(line.lstrip())
        if bare.startswith("# -- "):
            comment = bare.removeprefix("# -- ")
            continue
        if not bare or bare.startswith(("#", "- ")):
            continue
        if 0 <= covered < indent:
            continue
        covered = -1
        while stack and stack[-1][0] >= indent:
            stack.pop()
        stack.append((indent, bare.partition(":")[0]))
        path = [name for _, name in stack]
        value = values
        for name in path:
            value = value[name]
        if comment:
            found.append((".".join(path), value, comment))
            comment, covered = "", indent
        elif bare.partition(":")[2].strip():
            raise ValueError(
                f"a line that begins with '# -- ' must stand above every value, got {'.'.join(path)} without"
            )
    return found


def main() -> int:
    """Write both files, or with ``--check`` tell whether they are current."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is not current")
    check = parser.parse_args().check
    wanted = {
        CHART / "values.schema.json": json.dumps(values_schema(), indent=1, sort_keys=True) + "\n",
        CHART / "README.md": readme(),
    }
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    if check and stale:
        names = ", ".join(path.name for path in stale)
        sys.stderr.write(f"{names} must tell what settings and values say; run: deploy/chart-schema\n")
        return 1
    for path in stale:
        path.write_text(wanted[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
