"""Where colour begins is measured on a version's own good parts, once, and kept beside the version."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from services.adapters.memory import MemoryObjectStore, MemoryTriton
from services.adapters.memory_explain import MemoryExplanationClient
from services.adapters.modelstore import ModelStore
from services.adapters.ports import ExplanationRequest, ExplanationStep
from services.core.errors import ExplanationError, NotFoundError
from services.core.explain.heatmap import HeatScale
from services.core.imaging import ImageLimits
from services.explainer.asking import Asking
from services.explainer.scales import HeatScales
from services.explainer.settings import BudgetSettings, CalibrationSettings, ExplainerSettings
from services.explainer.versions import Version, Versions
from tests.support.detector_line import wait_until
from tests.support.explainer_line import brightness_maps
from tests.support.model_versions import write_model_version


class Bench:
    """A stored version with good parts, and scales on it."""

    def __init__(self, folder: Path) -> None:
        write_model_version(folder / "v1", version=1, size_px=32, parts=6)
        self.store = MemoryObjectStore()
        self.models = ModelStore(self.store)
        self.models.upload(folder / "v1")
        self.triton = MemoryTriton()
        self.triton.loaded.add("explain-default-v1")
        self.client = MemoryExplanationClient(brightness_maps, [self.triton])
        self.version = Versions(self.models.manifest).get("default", 1)
        self.open: list[HeatScales] = []

    def scales(self, **settings: object) -> HeatScales:
        told = ExplainerSettings(calibration=CalibrationSettings(parts=4, patience_s=0.0), **settings)  # type: ignore[arg-type]
        asking = Asking(self.client, ImageLimits(), grace_s=5.0, side_px=told.map_side_px)
        scales = HeatScales(told, asking, self.models, self.store)
        scales.start()
        self.open.append(scales)
        return scales

    def wait_for(self, scales: HeatScales, method: str = "rise") -> HeatScale:
        wait_until(lambda: scales.get(self.version, method).is_calibrated, "calibrated")
        return scales.get(self.version, method)

    def stored(self) -> list[str]:
        return [stat.key for stat in self.store.list("models/default/1/derived/")]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    for scales in bench.open:
        scales.close()


def test_until_it_is_measured_a_scale_is_not_calibrated_and_then_it_is(bench: Bench) -> None:
    scales = bench.scales()
    assert not scales.get(bench.version, "rise").is_calibrated
    found = bench.wait_for(scales)
    assert 0 < found.low < found.high
    assert len(bench.client.calls) == 4
    assert all(name == "explain-default-v1" for name, _ in bench.client.calls)
    assert not any(request.evidence for _, request in bench.client.calls)


def test_it_lies_beside_the_version_and_is_read_by_the_next(bench: Bench) -> None:
    first = bench.wait_for(bench.scales())
    (key,) = bench.stored()
    assert key.startswith("models/default/1/derived/heatmap/")
    told = json.loads(bench.store.get(key))
    assert (told["method"], told["explained_parts"], told["low"]) == ("rise", 4, first.low)
    calls = len(bench.client.calls)
    assert bench.wait_for(bench.scales()) == first
    assert len(bench.client.calls) == calls
    assert bench.models.versions("default") == (1,), "what is derived is no version"


def test_other_budgets_have_scales_of_their_own(bench: Bench) -> None:
    bench.wait_for(bench.scales())
    bench.wait_for(bench.scales(budget=BudgetSettings(max_passes=77)))
    assert len(bench.stored()) == 2


@pytest.mark.parametrize(
    "data", [b"{", b"[" * 2_000, b'{"low": 1' + b"0" * 400 + b', "high": 1}', b'{"low": [], "high": 1}']
)
def test_a_scale_that_cannot_be_read_is_measured_anew(bench: Bench, data: bytes) -> None:
    scales = bench.scales()
    bench.store.put(scales.key(bench.version, "rise"), data)
    assert bench.wait_for(scales).is_calibrated


def test_one_good_part_that_says_nothing_is_left_out(bench: Bench) -> None:
    asked = 0

    def explain(name: str, image: NDArray[np.uint8], request: ExplanationRequest) -> Iterable[ExplanationStep]:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise ExplanationError("flat", "flat_map")
        return brightness_maps(name, image, request)

    bench.client._function = explain
    bench.wait_for(bench.scales())
    assert json.loads(bench.store.get(bench.stored()[0]))["explained_parts"] == 3


def test_a_method_that_cannot_explain_the_model_is_not_tried_on_every_part(bench: Bench) -> None:
    def explain(_name: str, _image: NDArray[np.uint8], _request: ExplanationRequest) -> Iterable[ExplanationStep]:
        raise ExplanationError("there are none", "no_conv_layers")

    bench.client._function = explain
    scales = bench.scales()
    scales.get(bench.version, "gradcam")
    wait_until(lambda: ("default", 1, "gradcam") in scales._known, "it was given up")
    assert not scales.get(bench.version, "gradcam").is_calibrated
    assert len(bench.client.calls) == 1
    assert bench.stored() == []


def test_a_model_that_is_not_loaded_is_tried_again_when_it_is_needed(bench: Bench) -> None:
    bench.triton.loaded.clear()
    scales = bench.scales()
    scales.get(bench.version, "rise")
    wait_until(lambda: ("default", 1, "rise") not in scales._queued, "it was given up for now")
    bench.triton.loaded.add("explain-default-v1")
    assert bench.wait_for(scales).is_calibrated


def test_cases_go_before_the_calibration_for_a_while(bench: Bench) -> None:
    told = ExplainerSettings(calibration=CalibrationSettings(parts=4, patience_s=60.0))
    asking = Asking(bench.client, ImageLimits(), grace_s=5.0, side_px=96)
    busy = True
    scales = HeatScales(told, asking, bench.models, bench.store, busy=lambda: busy)
    bench.open.append(scales)
    scales.start()
    scales.get(bench.version, "rise")
    wait_until(lambda: not scales._wanted, "it was taken up")
    assert bench.client.calls == []
    busy = False
    bench.wait_for(scales)


def test_reference_parts_are_spread_over_all_and_checked(bench: Bench) -> None:
    assert len(bench.models.reference_images("default", 1, 100)) == 6
    few = bench.models.reference_images("default", 1, 3)
    assert len({bytes(each) for each in few}) == 3
    assert bench.models.reference_images("default", 1, 0) == []
    with pytest.raises(NotFoundError):
        bench.models.reference_images("default", 2, 3)


def test_versions_are_read_once() -> None:
    asked = []

    class Manifest:
        alias, version, classes = "default", 3, ("good", "bad")
        preprocessing = None
        detector = ""

    def read(alias: str, number: int) -> Manifest:
        asked.append((alias, number))
        return Manifest()

    versions = Versions(read)  # type: ignore[arg-type]
    assert versions.get("default", 3) is versions.get("default", 3)
    assert isinstance(versions.get("default", 3), Version)
    assert asked == [("default", 3)]
