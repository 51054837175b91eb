"""A real Triton with the certificates and the very flags that compose and the chart give it: who is answered."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from services.adapters.identity import Identity, IdentityFiles
from services.adapters.triton import TritonControl, TritonInferenceClient
from services.core.errors import UnavailableError
from services.local.triton import LocalTriton
from tests.support.machine_certificates import Authority
from tests.support.toy_triton import expected_scores, toy_images, write_toy_model

pytestmark = pytest.mark.integration

MODEL = "toy-v1"
_ROOT = Path(__file__).resolve().parents[2]
_DEPLOYED = {"compose": "docker-compose.yml", "chart": "charts/sightline/templates/triton.yaml"}
_FLAG = re.compile(r"^ *- (--grpc-[a-z-]+=\S+)$", re.MULTILINE)
_DEADLINE_S = 2.0


class Plant:
    """A Triton that asks for certificates, its authority, and those who call it."""

    def __init__(self, folder: Path, deployed: str) -> None:
        self.authority = Authority(folder, "plant")
        self.stranger = Authority(folder, "stranger")
        pair = self.authority.sign("triton")
        names = {"tls.crt": pair.certificate, "tls.key": pair.key, "ca.crt": self.authority.file}
        flags = [
            re.sub(r"=/etc/sightline/tls/(\S+)", lambda found: f"={names[found[1]]}", flag)
            for flag in _FLAG.findall((_ROOT / _DEPLOYED[deployed]).read_text())
        ]
        assert len(flags) == 5, flags
        self.triton = LocalTriton(folder / "repository", flags=flags)
        write_toy_model(self.triton.repository, MODEL)

    def caller(self, signed_by: Authority | None, trusts: Authority | None = None) -> Identity:
        """Who shows a certificate of that authority, or none."""
        pair = signed_by.sign("caller") if signed_by else None
        certificate, key = (pair.certificate, pair.key) if pair else (None, None)
        return Identity(IdentityFiles(certificate, key, (trusts or self.authority).file))


@pytest.fixture(scope="module", params=sorted(_DEPLOYED))
def plant(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    plant = Plant(tmp_path_factory.mktemp("triton-tls"), request.param)
    plant.triton.start()
    yield plant
    plant.triton.kill()


def test_a_caller_of_the_plant_loads_a_model_and_has_an_answer(plant: Plant) -> None:
    identity = plant.caller(plant.authority)
    control = TritonControl(plant.triton.grpc_url, identity=identity)
    client = TritonInferenceClient([plant.triton.grpc_url], identity=identity)
    images = toy_images(3)
    try:
        control.load(MODEL, 30)
        assert control.ready_models() == {MODEL}
        result = client.infer(MODEL, images, 10).result(timeout=15)
    finally:
        client.close()
        control.close()
    np.testing.assert_allclose(result.score, expected_scores(images), rtol=1e-5)


@pytest.mark.parametrize("who", ["without a certificate", "of another authority", "in plain text", "trusting another"])
def test_nobody_else_is_answered_and_each_is_told_so_within_the_deadline(plant: Plant, who: str) -> None:
    identity = {
        "without a certificate": lambda: plant.caller(None),
        "of another authority": lambda: plant.caller(plant.stranger),
        "in plain text": lambda: None,
        "trusting another": lambda: plant.caller(plant.authority, trusts=plant.stranger),
    }[who]()
    control = TritonControl(plant.triton.grpc_url, timeout_s=_DEADLINE_S, identity=identity)
    client = TritonInferenceClient([plant.triton.grpc_url], identity=identity)
    try:
        assert not control.is_live()
        with pytest.raises(UnavailableError, match="Triton must list its models"):
            control.ready_models()
        began_s = time.monotonic()
        with pytest.raises(UnavailableError, match=rf"Triton at {plant.triton.grpc_url} "):
            client.infer(MODEL, toy_images(1), _DEADLINE_S).result(timeout=_DEADLINE_S + 5)
        assert time.monotonic() - began_s < _DEADLINE_S + 1
    finally:
        client.close()
        control.close()
