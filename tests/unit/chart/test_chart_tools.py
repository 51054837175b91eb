"""The tools that write the chart's schema and README and check its manifests find what they are for."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import jsonschema
import pytest

from tests.unit.chart.conftest import ROOT


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "deploy" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def deployment(replicas: object) -> dict[str, object]:
    labels = {"app": "a"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "a"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": pod}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": spec}


@pytest.mark.parametrize("version", load("chart_check").KUBERNETES)
def test_what_kubernetes_would_refuse_is_found(version: str) -> None:
    check = load("chart_check")
    assert check.complaints(deployment(2), version) == ""
    assert "replicas" in check.complaints(deployment("two"), version)
    misspelt = deployment(2) | {"specs": {}}
    assert "specs" in check.complaints(misspelt, version)


def test_a_value_without_a_line_above_it_is_refused() -> None:
    schema = load("chart_schema")
    assert schema.documented_values("# -- How many.\na: 1\n") == [("a", 1, "How many.")]
    with pytest.raises(ValueError, match=r"must stand above every value, got b\.c without"):
        schema.documented_values("# -- How many.\na: 1\nb:\n  c: 2\n")


def test_the_schema_is_one_and_takes_no_secret() -> None:
    schema = load("chart_schema").values_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    names = {name for each in schema["$defs"].values() for name in each.get("properties", {})}
    assert {"batch", "bootstrap_servers", "cameras"} <= names
    assert not {"sasl_password", "access_key", "secret_key", "client_secret", "password", "secret"} & names


def test_a_setting_that_needs_a_certain_value_keeps_its_bounds_in_the_schema() -> None:
    schema = load("chart_schema").values_schema()
    assert schema["$defs"]["detector"]["properties"]["drain_s"]["maximum"] == 600
    assert schema["$defs"]["detector"]["additionalProperties"] is False
