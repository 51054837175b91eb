"""The explaining models beside the versions: there when they should be, and never in a version's way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import REGISTRY

from services.adapters.memory import MemoryInferenceClient, MemoryModelControl, MemoryObjectStore, MemoryTriton
from services.adapters.modelstore import ModelStore
from services.core.errors import InvalidInputError
from services.serving.bringup import BringUp
from services.serving.explainers import Explainers
from services.serving.repository import ExplainingPlacement, Placement
from services.serving.versions import VersionKey
from tests.support.model_versions import write_model_version

ONE, TWO = VersionKey("default", 1), VersionKey("default", 2)


class Plant:
    """One Triton in memory, two versions on the disk beside it, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.now_s = 100.0
        self.triton = MemoryTriton()
        self.control = MemoryModelControl(self.triton)
        self.loads: list[str] = []
        load = self.control.load
        self.control.load = lambda name, timeout_s: (load(name, timeout_s), self.loads.append(name))[0]  # type: ignore[method-assign]
        store = ModelStore(MemoryObjectStore())
        self.bring_up = BringUp(
            store,
            self.control,
            MemoryInferenceClient(lambda _name, _images: np.empty(0)),  # type: ignore[arg-type,return-value]
            folder / "repository",
            folder / "data",
            Placement(),
        )
        for key in (ONE, TWO):
            write_model_version(self.bring_up.folder_of(key), alias=key.alias, version=key.version, size_px=16)
        self.explainers = self.new()

    def new(self, placement: ExplainingPlacement | None = ExplainingPlacement()) -> Explainers:  # noqa: B008 - frozen
        return Explainers(self.bring_up, placement, clock=lambda: self.now_s)

    def turn(self, wanted: set[VersionKey], kept: set[VersionKey] = frozenset()) -> set[str]:  # type: ignore[assignment]
        """Let it work until it has nothing under way."""
        for _ in range(2):
            self.explainers.turn(self.control.ready_models(), wanted, {*wanted, *kept})
            deadline_s = time.monotonic() + 20
            while any(one.busy for one in self.explainers._known.values()):
                assert time.monotonic() < deadline_s
                time.sleep(0.002)
        return set(self.triton.loaded)


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    plant = Plant(tmp_path)
    yield plant
    plant.explainers.stop()


def up(key: VersionKey) -> float | None:
    return REGISTRY.get_sample_value("sightline_serving_explainer_up", {"model": key.explainer_name})


def failures(key: VersionKey) -> float:
    name = "sightline_serving_explainer_failures_total"
    return REGISTRY.get_sample_value(name, {"model": key.explainer_name}) or 0.0


def test_what_is_wanted_is_loaded_once_and_told(plant: Plant) -> None:
    assert plant.turn({ONE, TWO}) == {"explain-default-v1", "explain-default-v2"}
    plant.turn({ONE, TWO})
    assert sorted(plant.loads) == ["explain-default-v1", "explain-default-v2"]
    assert up(ONE) == 1
    assert (plant.bring_up.repository / "explain-default-v1" / "1" / "model.py").is_file()


def test_one_that_may_stay_stays_and_leaves_with_its_version(plant: Plant) -> None:
    plant.turn({ONE})
    assert plant.turn(set(), {ONE}) == {"explain-default-v1"}
    assert plant.turn(set()) == set()
    assert not (plant.bring_up.repository / "explain-default-v1").exists()
    assert up(ONE) is None


def test_one_that_may_stay_is_not_loaded_for_that(plant: Plant) -> None:
    assert plant.turn(set(), {ONE}) == set()


def test_after_a_restart_of_triton_they_come_back(plant: Plant) -> None:
    plant.turn({ONE})
    plant.triton.restart()
    assert plant.turn({ONE}) == {"explain-default-v1"}
    assert len(plant.loads) == 2


def test_a_new_agent_keeps_what_is_loaded_from_the_same_entry_and_loads_again_what_is_not(plant: Plant) -> None:
    plant.turn({ONE})
    plant.explainers = plant.new()
    plant.turn({ONE})
    assert len(plant.loads) == 1
    plant.explainers = plant.new(ExplainingPlacement(nice=19))
    plant.turn({ONE})
    assert len(plant.loads) == 2
    assert (
        'key: "nice" value { string_value: "19" }'
        in (plant.bring_up.repository / "explain-default-v1" / "config.pbtxt").read_text()
    )


def test_switched_off_they_are_taken_away(plant: Plant) -> None:
    plant.turn({ONE})
    plant.triton.loaded.add("default-v1")
    plant.explainers = plant.new(None)
    assert plant.turn({ONE}, {ONE}) == {"default-v1"}


def test_one_that_is_refused_is_tried_again_after_a_pause_and_the_other_comes_up(plant: Plant) -> None:
    before = failures(ONE)
    plant.triton.refusals["explain-default-v1"] = "no memory"
    assert plant.turn({ONE, TWO}) == {"explain-default-v2"}
    assert failures(ONE) == before + 1, "not again before its time"
    assert up(ONE) == 0
    plant.triton.refusals.clear()
    plant.now_s += 5
    assert plant.turn({ONE, TWO}) == {"explain-default-v1", "explain-default-v2"}
    assert up(ONE) == 1


def test_one_whose_version_is_damaged_fails_and_says_so(plant: Plant, caplog: pytest.LogCaptureFixture) -> None:
    (plant.bring_up.folder_of(ONE) / "weights.safetensors").write_bytes(b"other")
    assert plant.turn({ONE}) == set()
    assert "weights.safetensors" in caplog.text


def test_a_triton_that_is_away_when_one_is_loaded_is_asked_again(plant: Plant) -> None:
    plant.triton.live = False
    plant.explainers.turn(frozenset(), {ONE}, {ONE})
    deadline_s = time.monotonic() + 20
    while any(one.busy for one in plant.explainers._known.values()):
        assert time.monotonic() < deadline_s
        time.sleep(0.002)
    plant.triton.live = True
    plant.now_s += 5
    assert plant.turn({ONE}) == {"explain-default-v1"}


@pytest.mark.parametrize("value", [{"nice": 20}, {"threads": 0}, {"batch_size": 0}, {"max_waiting": 0}])
def test_a_placement_outside_its_ranges_is_refused(value: dict[str, int]) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(value))):
        ExplainingPlacement(**value)


def test_the_names_of_both_kinds_of_models_are_told_apart() -> None:
    assert VersionKey.of_model("explain-default-v1") is None
    assert VersionKey.of_explainer("explain-default-v1") == ONE
    assert VersionKey.of_explainer("default-v1") is None
    assert VersionKey.of_explainer("explain-toy") is None
    assert VersionKey.of_model("default-v1") == ONE
