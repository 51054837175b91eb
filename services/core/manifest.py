"""``model.json``: everything about a model version except its numbers, and the strict reading of it.

A model folder may come from anywhere. Unknown keys, missing keys, wrong types and values out of range are all refused,
and the message names the field, so that a version which was made by a newer release, or by hand, never half works.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import re
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from services.core.decision import validate_operating_point
from services.core.errors import InvalidInputError, ModelFormatError
from services.core.identity import validate_id
from services.core.preprocessing import Preprocessing
from services.core.types import EXPLAINER_PREFIX, OperatingPoint, triton_model_name

#: Version of the layout of ``model.json``.
SCHEMA: Final = 1
#: Name of the class that means "nothing wrong"; always the first.
GOOD: Final = "good"

#: What the architecture of a version begins with that is a detector and no network.
DETECTOR_PREFIX: Final = "detector:"

OptionValue = bool | int | float | str
CalibrationRule = Literal["escape_rate", "false_reject_rate"]

_MAX_JSON_BYTES: Final = 4 * 1024 * 1024
_ALIAS: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z", re.ASCII)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Normalisation:
    """How the model turns bytes into floats: ``(x - mean) / std``, per channel, ``x`` in 0..255."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Calibration:
    """How the operating point was chosen, and what it gave on the parts it was chosen on.

    Attributes:
        rule: Which promise sets the threshold.
        target: The promise: at most this share, in ``(0, 1)``.
        confidence: Probability that the promise holds for the population; 0 where it is meant on average only.
        method: Name of the statistics, e.g. ``clopper-pearson``.
        n_good: Good parts that it was chosen on.
        n_defective: Defective parts that it was chosen on.
        other_target: The second promise, which sets the other edge of the review band; 0 = none, no band.
        escape_rate: Share of the defective parts with PASS.
        false_reject_rate: Share of the good parts with FAIL.
        review_rate_good: Share of the good parts with REVIEW.
        review_rate_defective: Share of the defective parts with REVIEW.
    """

    rule: CalibrationRule
    target: float
    confidence: float
    method: str
    n_good: int
    n_defective: int
    other_target: float
    escape_rate: float
    false_reject_rate: float
    review_rate_good: float
    review_rate_defective: float


@dataclass(frozen=True, slots=True)
class Lineage:
    """What the version was made from.

    Attributes:
        source: Where the data came from, in words a machine can compare: ``simulation``, a folder's name, ``reviews``.
        description: For people.
        seed: Seed of everything random in its making.
        n_train: Parts that it was fitted on.
        n_calibration: Parts that its operating point was chosen on.
        n_holdout: Parts of the frozen hold-out; in neither of the others.
        data_sha256: Digest over the ids and images of all three, in lower-case hex.
        parent: Version it was trained on from, ``<alias>-v<N>``; empty for none.
        backbone_weights: Origin of the weights that training began with: ``offline``, ``imagenet`` or ``none``.
    """

    source: str
    description: str
    seed: int
    n_train: int
    n_calibration: int
    n_holdout: int
    data_sha256: str
    parent: str = ""
    backbone_weights: str = ""


@dataclass(frozen=True, slots=True)
class Metric:
    """A measured figure with its interval (95 %) and the number of parts behind it."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class ModelManifest:
    """One model version.

    Attributes:
        alias: The line of versions that it belongs to, e.g. ``default``; lower case, at most 63 characters.
        version: Number within the alias, ``>= 1``.
        architecture: Name for ``services.core.models``, or ``detector:`` and a name for ``services.core.detectors``.
        architecture_options: A network's keyword arguments beyond the number of classes; of a detector its features,
            backbone, seed and options.
        classes: Names of the outputs; the first is ``good``, at least two.
        preprocessing: How an image becomes input.
        normalisation: What the model does to the input first.
        embedding_size: Length of the input of the last layer.
        operating_point: Where scores are cut.
        calibration: How that was chosen.
        lineage: What the version was made from.
        metrics: Measured on the frozen hold-out, by name.
        code_version: Version of this software that made it.
        created_at_ns: When, in nanoseconds since the epoch.
        schema: Layout of the file.
    """

    alias: str
    version: int
    architecture: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    normalisation: Normalisation
    embedding_size: int
    operating_point: OperatingPoint
    calibration: Calibration
    lineage: Lineage
    metrics: dict[str, Metric]
    code_version: str
    created_at_ns: int
    architecture_options: dict[str, OptionValue] = field(default_factory=dict)
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        try:
            _check(self)
        except (ValueError, InvalidInputError) as error:
            raise ModelFormatError(f"model.json: {error}") from error

    @property
    def detector(self) -> str:
        """Name of the detector that the version is; empty for a network."""
        return self.architecture.removeprefix(DETECTOR_PREFIX) if self.architecture.startswith(DETECTOR_PREFIX) else ""

    @property
    def triton_model_name(self) -> str:
        """Name of the version's model in Triton."""
        return triton_model_name(self.alias, self.version)

    def to_json(self) -> bytes:
        """Write the manifest; equal manifests give equal bytes."""
        return (json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True, allow_nan=False) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes) -> ModelManifest:
        """Read a manifest.

        Args:
            data: The file's bytes.

        Returns:
            The manifest, checked.

        Raises:
            ModelFormatError: If it is not JSON, from another schema, or any field is unknown, missing or wrong.
        """
        values = load_json(data, "model.json")
        if not isinstance(values, dict):
            raise ModelFormatError(f"model.json: must hold an object, got {type(values).__name__}")
        if values.get("schema") != SCHEMA:
            raise ModelFormatError(f"model.json: schema must be {SCHEMA}, got {values.get('schema')!r}")
        return read_strictly(cls, values, "model.json")


def load_json(data: bytes, name: str) -> Any:
    """Parse JSON from outside: bounded in size, no ``NaN``, no key twice.

    Args:
        data: The file's bytes.
        name: The file's name, for the error message.

    Returns:
        The value.

    Raises:
        ModelFormatError: If it is too large or not such JSON.
    """
    if len(data) > _MAX_JSON_BYTES:
        raise ModelFormatError(f"{name}: must have at most {_MAX_JSON_BYTES} bytes, got {len(data)}")
    try:
        return json.loads(data, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"{name}: must be JSON, got {error}") from error


def dump_json(value: Any) -> bytes:
    """Write a dataclass as one line of JSON that :func:`read_strictly` reads back; enumerations go by their values.

    Args:
        value: An instance; no number in it may be infinite or none.
    """
    return json.dumps(
        dataclasses.asdict(value),
        default=_enum_value,
        sort_keys=True,
        allow_nan=False,
        ensure_ascii=False,
        separators=(",", ":"),
    ).encode()


def _enum_value(value: object) -> object:
    if isinstance(value, enum.Enum):
        return value.value
    raise TypeError(f"what is written must be plain values and enumerations, got {type(value).__name__}")


def read_strictly(kind: type[_T], value: object, where: str) -> _T:
    """Build a value of a declared type from parsed JSON, refusing everything that was not declared.

    Args:
        kind: A dataclass, ``str``, ``int``, ``float``, ``bool``, a ``Literal``, an enumeration of texts, a union of
            scalars, one of those or ``None``, ``tuple[X, ...]`` or ``dict[str, X]``.
        value: Parsed JSON.
        where: Path to the value, for the error message.

    Returns:
        The value.

    Raises:
        ModelFormatError: If something is unknown, missing or of another type; the message names the field.
    """
    return _read(kind, value, where)  # type: ignore[no-any-return]


def _read(kind: Any, value: object, where: str) -> Any:
    origin = get_origin(kind)
    if dataclasses.is_dataclass(kind):
        return _read_dataclass(kind, value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise ModelFormatError(f"{where} must be a list, got {type(value).__name__}")
        return tuple(_read(get_args(kind)[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise ModelFormatError(f"{where} must be an object, got {type(value).__name__}")
        return {key: _read(get_args(kind)[1], item, f"{where}.{key}") for key, item in value.items()}
    return _read_scalar(kind, value, where)


def _read_scalar(kind: Any, value: object, where: str) -> Any:
    origin = get_origin(kind)
    if origin is Literal:
        if value not in get_args(kind):
            raise ModelFormatError(f"{where} must be one of {', '.join(map(str, get_args(kind)))}, got {value!r}")
        return value
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _read_enum(kind, value, where)
    if origin in (Union, UnionType):
        others = [one for one in get_args(kind) if one is not type(None)]
        if len(others) == 1:
            return None if value is None else _read(others[0], value, where)
        if type(value) in get_args(kind):
            return value
        raise ModelFormatError(f"{where} must be a number, a text or true/false, got {type(value).__name__}")
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ModelFormatError(f"{where} must be of type {kind.__name__}, got {type(value).__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ModelFormatError(f"{where} must be finite, got {value}")
    return value


def _read_enum(kind: type[enum.Enum], value: object, where: str) -> enum.Enum:
    for member in kind:
        if member.value == value and type(value) is str:
            return member
    raise ModelFormatError(f"{where} must be one of {', '.join(str(one.value) for one in kind)}, got {value!r}")


def _read_dataclass(kind: Any, value: object, where: str) -> Any:
    if not isinstance(value, dict):
        raise ModelFormatError(f"{where} must be an object, got {type(value).__name__}")
    hints = get_type_hints(kind)
    names = {item.name for item in dataclasses.fields(kind)}
    unknown = sorted(set(value) - names)
    if unknown:
        raise ModelFormatError(f"{where} must hold only known fields, got {', '.join(unknown)}")
    missing = sorted(names - set(value))
    if missing:
        raise ModelFormatError(f"{where} must hold every field, missing {', '.join(missing)}")
    read = {name: _read(hints[name], value[name], f"{where}.{name}") for name in sorted(names)}
    try:
        return kind(**read)
    except ValueError as error:
        raise ModelFormatError(f"{where}: {error}") from error


def _check(manifest: ModelManifest) -> None:
    if manifest.schema != SCHEMA:
        raise ValueError(f"schema must be {SCHEMA}, got {manifest.schema}")
    validate_alias(manifest.alias)
    if manifest.version < 1:
        raise ValueError(f"version must be at least 1, got {manifest.version}")
    if manifest.embedding_size < 1:
        raise ValueError(f"embedding_size must be at least 1, got {manifest.embedding_size}")
    if len(manifest.classes) < 2 or manifest.classes[0] != GOOD or len(set(manifest.classes)) != len(manifest.classes):
        raise ValueError(f"classes must be at least two, all different, '{GOOD}' first, got {list(manifest.classes)}")
    for name in manifest.classes:
        validate_id(name, "classes")
    norm = manifest.normalisation
    if len(norm.mean) != 3 or len(norm.std) != 3 or not all(math.isfinite(x) for x in norm.mean + norm.std):
        raise ValueError(f"normalisation must have three finite values each, got {norm.mean} and {norm.std}")
    if min(norm.std) <= 0:
        raise ValueError(f"normalisation.std must be above 0, got {norm.std}")
    validate_operating_point(manifest.operating_point)
    _check_calibration(manifest.calibration)


def _check_calibration(calibration: Calibration) -> None:
    if not 0 < calibration.target < 1:
        raise ValueError(f"calibration.target must lie in (0, 1), got {calibration.target}")
    for name in ("confidence", "other_target", "escape_rate", "false_reject_rate"):
        if not 0 <= getattr(calibration, name) <= 1:
            raise ValueError(f"calibration.{name} must lie in 0..1, got {getattr(calibration, name)}")
    if calibration.n_good < 0 or calibration.n_defective < 0:
        raise ValueError("calibration must count at least 0 parts")


def validate_alias(alias: str) -> str:
    """Let a model alias through only if it can name a Triton model, a folder and an object key.

    Args:
        alias: Text from outside.

    Returns:
        The same text.

    Raises:
        InvalidInputError: If it is not 1 to 63 lower-case letters, digits, ``.``, ``_`` or ``-``, or begins as the
            names of explaining models do.
    """
    if alias.startswith(EXPLAINER_PREFIX):
        raise InvalidInputError(f"alias must not begin with {EXPLAINER_PREFIX!r}, got {ascii(alias)[:80]}")
    if _ALIAS.match(alias) is None or ".." in alias:
        raise InvalidInputError(
            f"alias must be 1..63 lower-case letters, digits, '.', '_' or '-', got {ascii(alias)[:80]}"
        )
    return alias


def _refuse_constant(name: str) -> float:
    raise ValueError(f"a number that is {name}")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key twice in one object")
    return values
