from __future__ import annotations

import dataclasses
import enum
import json
from typing import Any

import pytest

from services.core.errors import ModelFormatError
from services.core.manifest import (
    Calibration,
    Lineage,
    Metric,
    ModelManifest,
    Normalisation,
    dump_json,
    load_json,
    read_strictly,
    validate_alias,
)
from services.core.preprocessing import Preprocessing
from services.core.types import OperatingPoint


def manifest(**changes: Any) -> ModelManifest:
    values: dict[str, Any] = {
        "alias": "default",
        "version": 3,
        "architecture": "efficientnet-lite0",
        "architecture_options": {"tap": "multi"},
        "classes": ("good", "scratch"),
        "preprocessing": Preprocessing(mode="tiles", overlap=0.5),
        "normalisation": Normalisation((127.0,) * 3, (128.0,) * 3),
        "embedding_size": 1280,
        "operating_point": OperatingPoint(0.5, 0.4, 0.6),
        "calibration": Calibration("escape_rate", 0.05, 0.95, "clopper-pearson", 200, 120, 0.02, 0.01, 0.0, 0.1, 0.2),
        "lineage": Lineage("simulation", "drawn parts", 7, 300, 320, 400, "0" * 64),
        "metrics": {"auroc": Metric(0.98, 0.97, 0.99, 400)},
        "code_version": "0.1.0",
        "created_at_ns": 1_790_000_000_000_000_000,
    }
    return ModelManifest(**(values | changes))


def edited(path: str, value: object) -> bytes:
    tree = json.loads(manifest().to_json())
    *parents, last = path.split(".")
    node = tree
    for name in parents:
        node = node[name]
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return json.dumps(tree).encode()


def test_a_manifest_comes_back_as_it_was_written() -> None:
    assert ModelManifest.from_json(manifest().to_json()) == manifest()


def test_equal_manifests_give_equal_bytes() -> None:
    assert manifest().to_json() == ModelManifest.from_json(manifest().to_json()).to_json()


@pytest.mark.parametrize(
    "path",
    ["alias", "preprocessing.mode", "calibration.target", "lineage.seed", "normalisation.std", "operating_point"],
)
def test_a_missing_field_is_named(path: str) -> None:
    with pytest.raises(ModelFormatError, match=f"missing {path.rpartition('.')[2]}"):
        ModelManifest.from_json(edited(path, ...))


@pytest.mark.parametrize("path", ["colour", "preprocessing.crop", "calibration.magic"])
def test_an_unknown_field_is_named(path: str) -> None:
    with pytest.raises(ModelFormatError, match=f"only known fields, got {path.rpartition('.')[2]}"):
        ModelManifest.from_json(edited(path, 1))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("version", "3"),
        ("version", True),
        ("version", 1.5),
        ("classes", "good"),
        ("classes", ["good", 1]),
        ("metrics", []),
        ("metrics", {"auroc": 0.9}),
        ("preprocessing.mode", "crop"),
        ("preprocessing.height_px", 1),
        ("calibration.rule", "magic"),
        ("architecture_options", {"a": None}),
        ("operating_point.threshold", "0.5"),
        ("normalisation", None),
        ("lineage.source", 5),
    ],
)
def test_a_wrong_type_or_value_is_refused_and_its_field_named(path: str, value: object) -> None:
    with pytest.raises(ModelFormatError, match=path.partition(".")[0]):
        ModelManifest.from_json(edited(path, value))


@pytest.mark.parametrize("schema", [0, 2, "1", None, ...])
def test_another_schema_is_refused_before_anything_else(schema: object) -> None:
    with pytest.raises(ModelFormatError, match="schema must be 1"):
        ModelManifest.from_json(edited("schema", schema))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"1",
        b"\xff\xfe",
        b'{"schema": 1, "schema": 1}',
        b'{"schema": NaN}',
        b"[" * 100_000,
        b" " * 5_000_000,
    ],
)
def test_what_is_no_plain_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(ModelFormatError, match=r"model\.json"):
        ModelManifest.from_json(data)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alias": "../up"}, "alias"),
        ({"alias": "UPPER"}, "alias"),
        ({"alias": "explain-weld"}, "alias"),
        ({"version": 0}, "version"),
        ({"embedding_size": 0}, "embedding_size"),
        ({"classes": ("good",)}, "classes"),
        ({"classes": ("bad", "good")}, "classes"),
        ({"classes": ("good", "a", "a")}, "classes"),
        ({"classes": ("good", "a/b")}, "classes"),
        ({"normalisation": Normalisation((0.0,), (1.0,))}, "normalisation"),
        ({"normalisation": Normalisation((0.0,) * 3, (0.0,) * 3)}, "std must be above 0"),
        ({"operating_point": OperatingPoint(0.5, 0.6, 0.7)}, "low <= threshold <= high"),
        ({"schema": 2}, "schema"),
    ],
)
def test_a_manifest_that_cannot_be_meant_is_never_made(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelFormatError, match=message):
        manifest(**changes)


@pytest.mark.parametrize("name", ["confidence", "other_target", "escape_rate", "false_reject_rate", "target"])
def test_rates_outside_of_0_to_1_are_refused(name: str) -> None:
    with pytest.raises(ModelFormatError, match=name):
        manifest(calibration=dataclasses.replace(manifest().calibration, **{name: 1.5}))


def test_the_triton_model_is_named_by_alias_and_version() -> None:
    assert manifest().triton_model_name == "default-v3"


def test_ordinary_aliases_are_let_through() -> None:
    assert validate_alias("weld-line.2_top") == "weld-line.2_top"


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass(frozen=True)
class Painted:
    name: str
    colour: Colour
    second: Colour | None
    layers: tuple[tuple[int, ...], ...]


@pytest.mark.parametrize("second", [None, Colour.BLUE])
def test_what_is_written_with_enumerations_and_nothing_comes_back(second: Colour | None) -> None:
    painted = Painted("λ", Colour.RED, second, ((1, 2), ()))
    data = dump_json(painted)
    assert read_strictly(Painted, load_json(data, "painted"), "painted") == painted


@pytest.mark.parametrize("value", ["green", "RED", None, 1, ["red"]])
def test_a_value_that_an_enumeration_does_not_have_is_refused(value: object) -> None:
    with pytest.raises(ModelFormatError, match=r"colour must be one of red, blue, got "):
        read_strictly(Colour, value, "colour")


def test_only_plain_values_and_enumerations_are_written() -> None:
    with pytest.raises(TypeError, match="must be plain values and enumerations, got bytes"):
        dump_json(Painted(b"x", Colour.RED, None, ()))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not JSON compliant"):
        dump_json(Metric(float("nan"), 0.0, 1.0, 4))
