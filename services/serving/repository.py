"""What Triton reads: one folder per model version, generated from the version's manifest.

An entry is a configuration and a one-line ``model.py`` that imports the installed package; the version's own folder is
named in a parameter and is never copied, so that an entry is a few hundred bytes.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from services.adapters.explaining import FIGURES
from services.core.errors import InvalidInputError
from services.core.manifest import ModelManifest
from services.core.types import triton_explainer_name

Device = Literal["cpu", "gpu"]
Engine = Literal["auto", "measured", "torch", "openvino", "onnx", "tensorrt"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]

CONFIG: Final = "config.pbtxt"
#: What Triton's process imports first. How far it steps back stands in the configuration too, by which an agent tells
#: what a loaded model was made from.
_STEP_BACK: Final = "import os\n\nos.nice({nice})\n\n"
#: A library that starts threads when it is imported would leave them stepping back.
_GENTLY: Final = """\
os.environ["OMP_NUM_THREADS"] = "1"

from services.serving.backend.gently import import_gently

import_gently("services.serving.backend.model")

"""
_MODEL: Final = "from services.serving.backend.{} import TritonPythonModel  # noqa: F401\n"


@dataclass(frozen=True, slots=True)
class Placement:
    """How a model is run.

    Attributes:
        device: ``cpu`` or ``gpu``.
        gpus: Numbers of the GPUs, each with ``instances`` of the model; empty takes all that Triton sees.
        instances: Processes per device.
        engine: What runs the network; ``measured`` measures at load and takes the fastest that agrees with torch, which
            is what ``auto`` means on a GPU; on a CPU that was measured beforehand.
        precision: Of the features; ``auto`` takes one that keeps the verdicts of float32.
        threads: CPU threads of each process.
        nice: How far each process steps back for others, 0 to 19; for work that must not delay verdicts.
        max_batch_size: Most images in one pass.
        preferred_batch_sizes: Sizes at which the queue stops waiting for more.
        max_queue_delay_us: How long a request waits for company.
    """

    device: Device = "cpu"
    gpus: tuple[int, ...] = ()
    instances: int = 1
    engine: Engine = "auto"
    precision: Precision = "auto"
    threads: int = 1
    nice: int = 0
    max_batch_size: int = 16
    preferred_batch_sizes: tuple[int, ...] = ()
    max_queue_delay_us: int = 0

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("instances", self.instances, 1, 64),
            ("threads", self.threads, 1, 512),
            ("nice", self.nice, 0, 19),
            ("max_batch_size", self.max_batch_size, 1, 4096),
            ("max_queue_delay_us", self.max_queue_delay_us, 0, 10_000_000),
        ):
            if not low <= value <= high:
                raise InvalidInputError(f"{name} must lie in {low}..{high}, got {value}")
        if any(not 1 <= size <= self.max_batch_size for size in self.preferred_batch_sizes):
            raise InvalidInputError(
                f"preferred_batch_sizes must lie in 1..{self.max_batch_size}, got {self.preferred_batch_sizes}"
            )
        if self.gpus and self.device != "gpu":
            raise InvalidInputError(f"gpus may be named only for the device gpu, got {self.gpus} for {self.device}")

    @property
    def gentle(self) -> bool:
        """Whether the model comes up, and warms itself, in a thread that steps back, before Triton asks it.

        With one thread on a CPU the thread that asks does all the work. More would stay, and stay back.
        """
        return self.device == "cpu" and self.threads == 1


@dataclass(frozen=True, slots=True)
class ExplainingPlacement:
    """How the model that explains a version is run, beside the one that serves it.

    Attributes:
        nice: How far its process steps back for the others, 0 to 19.
        threads: CPU threads.
        batch_size: Images of one masked pass; between two of them an explanation may be given up.
        max_waiting: Most explanations that wait for the one that is made; more are refused as busy.
    """

    nice: int = 15
    threads: int = 1
    batch_size: int = 16
    max_waiting: int = 16

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("nice", self.nice, 0, 19),
            ("threads", self.threads, 1, 512),
            ("batch_size", self.batch_size, 1, 4096),
            ("max_waiting", self.max_waiting, 1, 4096),
        ):
            if not low <= value <= high:
                raise InvalidInputError(f"{name} must lie in {low}..{high}, got {value}")


def render_config(
    manifest: ModelManifest, version_folder: Path, placement: Placement, cache_folder: Path | None = None
) -> str:
    """Write the text of a version's ``config.pbtxt``.

    No queue policy is written (timeout, bound or priority levels): with any of them Triton's dynamic batcher now and
    then sleeps half a second over a waiting request; see ``docs/triton.md``.

    Args:
        manifest: The version's ``model.json``.
        version_folder: Absolute path of its verified folder, as Triton's processes see it.
        placement: How it is run.
        cache_folder: Where its process may keep what it derives from the version; None keeps nothing.

    Returns:
        A ``ModelConfig`` in protobuf text format.
    """
    size = manifest.preprocessing
    dims = f"{size.height_px}, {size.width_px}, 3"
    sizes = sorted({1, placement.max_batch_size})
    lines = [
        f"name: {_quoted(manifest.triton_model_name)}",
        'backend: "python"',
        f"max_batch_size: {placement.max_batch_size}",
        f'input [ {{ name: "IMAGE" data_type: TYPE_UINT8 dims: [ {dims} ] }} ]',
        "output [",
        '  { name: "SCORE" data_type: TYPE_FP32 dims: [ 1 ] },',
        f'  {{ name: "PROBABILITIES" data_type: TYPE_FP32 dims: [ {len(manifest.classes)} ] }},',
        f'  {{ name: "EMBEDDING" data_type: TYPE_FP32 dims: [ {manifest.embedding_size} ] }},',
        '  { name: "DISAGREEMENT" data_type: TYPE_FP32 dims: [ 1 ] }',
        "]",
        _instance_group(placement),
        _dynamic_batching(placement),
        # Ready means warm: Triton calls the model ready after these passes.
        *(_warmup(batch, dims) for batch in ([1] if placement.gentle else sizes)),
    ]
    parameters = {
        "version_folder": str(version_folder),
        "engine": placement.engine,
        "precision": placement.precision,
        "threads": str(placement.threads),
        "nice": str(placement.nice),
        "gentle": "true" if placement.gentle else "false",
        "cache_folder": str(cache_folder or ""),
    }
    return "\n".join([*lines, *_parameters(parameters)]) + "\n"


def render_explaining_config(
    manifest: ModelManifest,
    version_folder: Path,
    placement: Placement,
    explaining: ExplainingPlacement,
    cache_folder: Path | None = None,
) -> str:
    """Write the text of the ``config.pbtxt`` of the model that explains a version.

    Decoupled, without batching: one image in, a map out for each refinement. Triton's own queue stays empty, since the
    model queues by itself; so none of its policies is needed.

    Args:
        manifest: The version's ``model.json``.
        version_folder: Absolute path of its verified folder, as Triton's processes see it.
        placement: How the version is served; explanations ask the same engine.
        explaining: How explanations are made.
        cache_folder: Where the version's translations are; None makes them anew.

    Returns:
        A ``ModelConfig`` in protobuf text format.
    """
    size = manifest.preprocessing
    lines = [
        f"name: {_quoted(triton_explainer_name(manifest.alias, manifest.version))}",
        'backend: "python"',
        "max_batch_size: 0",
        "model_transaction_policy { decoupled: true }",
        f'input [ {{ name: "IMAGE" data_type: TYPE_UINT8 dims: [ {size.height_px}, {size.width_px}, 3 ] }} ]',
        "output [",
        '  { name: "MAP" data_type: TYPE_FP32 dims: [ -1, -1 ] },',
        f'  {{ name: "FIGURES" data_type: TYPE_FP32 dims: [ {len(FIGURES)} ] }}',
        "]",
        # More processes would only share the time that verdicts leave over.
        _instance_group(replace(placement, instances=1, gpus=placement.gpus[:1])),
    ]
    parameters = {
        "version_folder": str(version_folder),
        "engine": placement.engine,
        "precision": placement.precision,
        "threads": str(explaining.threads),
        "nice": str(explaining.nice),
        "batch_size": str(explaining.batch_size),
        "max_waiting": str(explaining.max_waiting),
        "cache_folder": str(cache_folder or ""),
    }
    return "\n".join([*lines, *_parameters(parameters)]) + "\n"


def write_entry(
    repository: Path,
    manifest: ModelManifest,
    version_folder: Path,
    placement: Placement,
    cache_folder: Path | None = None,
) -> Path:
    """Put a version into a model repository, whole or not at all; an entry of the same name is replaced.

    Args:
        repository: Triton's model repository.
        manifest: The version's ``model.json``.
        version_folder: Its verified folder.
        placement: How it is run.
        cache_folder: Where its process may keep what it derives from the version; None keeps nothing.

    Returns:
        The entry's folder.
    """
    cache = cache_folder.resolve() if cache_folder else None
    config = render_config(manifest, version_folder.resolve(), placement, cache)
    code = _STEP_BACK.format(nice=placement.nice) + (_GENTLY if placement.gentle else "") + _MODEL.format("model")
    return _write(repository / manifest.triton_model_name, code, config)


def write_explaining_entry(
    repository: Path,
    manifest: ModelManifest,
    version_folder: Path,
    placement: Placement,
    explaining: ExplainingPlacement,
    cache_folder: Path | None = None,
) -> Path:
    """Put the model that explains a version into a model repository, likewise.

    Args:
        repository: Triton's model repository.
        manifest: The version's ``model.json``.
        version_folder: Its verified folder.
        placement: How the version is served.
        explaining: How explanations are made.
        cache_folder: Where the version's translations are; None makes them anew.

    Returns:
        The entry's folder.
    """
    cache = cache_folder.resolve() if cache_folder else None
    config = render_explaining_config(manifest, version_folder.resolve(), placement, explaining, cache)
    entry = repository / triton_explainer_name(manifest.alias, manifest.version)
    return _write(entry, _STEP_BACK.format(nice=explaining.nice) + _MODEL.format("explain_model"), config)


def _write(entry: Path, model: str, config: str) -> Path:
    entry.parent.mkdir(parents=True, exist_ok=True)
    # Triton loads what it is asked for only; a dot folder beside the entries is no model.
    staging = Path(tempfile.mkdtemp(prefix=f".{entry.name}-", dir=entry.parent))
    try:
        staging.chmod(0o755)
        (staging / "1").mkdir()
        (staging / "1" / "model.py").write_text(model)
        (staging / CONFIG).write_text(config)
        shutil.rmtree(entry, ignore_errors=True)
        staging.rename(entry)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return entry


def remove_entry(repository: Path, model_name: str) -> None:
    """Take a version out of a model repository; one that is not there is no error."""
    shutil.rmtree(repository / model_name, ignore_errors=True)


def _parameters(parameters: Mapping[str, str]) -> list[str]:
    return [
        f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(value)} }} }}"
        for key, value in parameters.items()
    ]


def _quoted(text: str) -> str:
    if any(ord(character) < 0x20 for character in text):
        raise InvalidInputError(f"text in a Triton configuration must hold no control characters, got {text!r}")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _instance_group(placement: Placement) -> str:
    kind = "KIND_GPU" if placement.device == "gpu" else "KIND_CPU"
    gpus = f" gpus: [ {', '.join(map(str, placement.gpus))} ]" if placement.gpus else ""
    return f"instance_group [ {{ count: {placement.instances} kind: {kind}{gpus} }} ]"


def _dynamic_batching(placement: Placement) -> str:
    parts = []
    if placement.preferred_batch_sizes:
        parts.append(f"preferred_batch_size: [ {', '.join(map(str, sorted(placement.preferred_batch_sizes)))} ]")
    if placement.max_queue_delay_us:
        parts.append(f"max_queue_delay_microseconds: {placement.max_queue_delay_us}")
    return f"dynamic_batching {{ {' '.join(parts)} }}"


def _warmup(batch: int, dims: str) -> str:
    tensor = f'key: "IMAGE" value {{ data_type: TYPE_UINT8 dims: [ {dims} ] random_data: true }}'
    return f'model_warmup [ {{ name: "batch of {batch}" batch_size: {batch} count: 2 inputs {{ {tensor} }} }} ]'
