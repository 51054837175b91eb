from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.runtime.settings import ObjectStoreSettings

JOB = Path(__file__).parents[3] / "deploy" / "kubernetes" / "training-job.yaml"


@pytest.fixture
def container() -> dict[str, Any]:
    [job] = yaml.safe_load_all(JOB.read_text())
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    [container] = job["spec"]["template"]["spec"]["containers"]
    return dict(container)


def test_the_job_starts_the_module_that_trains(container: dict[str, Any]) -> None:
    command = container["command"]
    assert command[0] == "torchrun"
    assert importlib.util.find_spec(command[command.index("-m") + 1]) is not None


def test_the_job_sets_what_the_training_reads(container: dict[str, Any]) -> None:
    names = {one["name"] for one in container["env"]}
    group = {f"SIGHTLINE_OBJECT_STORE__{name.upper()}" for name in ObjectStoreSettings.model_fields}
    assert {"SIGHTLINE_OBJECT_STORE__ENDPOINT", "SIGHTLINE_OBJECT_STORE__SECRET_KEY"} <= names <= group


def test_the_job_holds_no_password_and_no_right_that_it_does_not_need(container: dict[str, Any]) -> None:
    secret = {one["name"]: one for one in container["env"] if one["name"].endswith("_KEY")}
    assert all("valueFrom" in one and "value" not in one for one in secret.values())
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert not container["securityContext"]["allowPrivilegeEscalation"]
