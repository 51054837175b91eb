"""What is written for Triton: configurations for CPU and GPU, and entries that are whole or not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from services.core.errors import InvalidInputError
from services.core.manifest import Calibration, Lineage, ModelManifest, Normalisation
from services.core.preprocessing import Preprocessing
from services.core.types import OperatingPoint
from services.serving.repository import (
    ExplainingPlacement,
    Placement,
    remove_entry,
    render_config,
    render_explaining_config,
    write_entry,
    write_explaining_entry,
)


@pytest.fixture
def manifest() -> ModelManifest:
    return ModelManifest(
        alias="weld",
        version=3,
        architecture="resnet18",
        classes=("good", "pore", "crack"),
        preprocessing=Preprocessing(height_px=192, width_px=320),
        normalisation=Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        embedding_size=512,
        operating_point=OperatingPoint(0.5, 0.4, 0.6),
        calibration=Calibration("escape_rate", 0.01, 0.0, "none", 1, 1, 0.0, 0.0, 0.0, 0.0, 0.0),
        lineage=Lineage("test", "", 0, 0, 0, 0, "0" * 64),
        metrics={},
        code_version="0",
        created_at_ns=1,
    )


def parse(text: str) -> model_config_pb2.ModelConfig:
    """Read the text as Triton does, with Triton's own schema."""
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def test_a_cpu_configuration_says_what_the_manifest_says(manifest: ModelManifest) -> None:
    config = parse(render_config(manifest, Path("/data/weld/3"), Placement(threads=2, max_batch_size=8)))
    assert config.name == "weld-v3"
    assert config.backend == "python"
    assert config.max_batch_size == 8
    assert (config.input[0].name, config.input[0].data_type, list(config.input[0].dims)) == (
        "IMAGE",
        model_config_pb2.TYPE_UINT8,
        [192, 320, 3],
    )
    outputs = {output.name: list(output.dims) for output in config.output}
    assert outputs == {"SCORE": [1], "PROBABILITIES": [3], "EMBEDDING": [512], "DISAGREEMENT": [1]}
    assert config.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_CPU
    assert config.parameters["version_folder"].string_value == "/data/weld/3"
    assert config.parameters["threads"].string_value == "2"
    assert config.parameters["cache_folder"].string_value == ""


def test_a_gpu_configuration_names_kind_count_and_devices(manifest: ModelManifest) -> None:
    placement = Placement(device="gpu", gpus=(0, 2), instances=2)
    group = parse(render_config(manifest, Path("/v"), placement)).instance_group[0]
    assert group.kind == model_config_pb2.ModelInstanceGroup.KIND_GPU
    assert group.count == 2
    assert list(group.gpus) == [0, 2]


def test_without_named_gpus_triton_takes_all_it_sees(manifest: ModelManifest) -> None:
    group = parse(render_config(manifest, Path("/v"), Placement(device="gpu"))).instance_group[0]
    assert list(group.gpus) == []


@pytest.mark.parametrize("placement", [{"threads": 2}, {"device": "gpu"}])
def test_the_model_is_warmed_at_one_and_at_the_largest_batch_before_it_is_ready(
    manifest: ModelManifest, placement: dict[str, Any]
) -> None:
    config = parse(render_config(manifest, Path("/v"), Placement(max_batch_size=32, **placement)))
    assert [warmup.batch_size for warmup in config.model_warmup] == [1, 32]
    assert list(config.model_warmup[1].inputs["IMAGE"].dims) == [192, 320, 3]
    assert config.parameters["gentle"].string_value == "false"


def test_with_one_thread_on_a_cpu_the_model_warms_itself_and_triton_asks_once(manifest: ModelManifest) -> None:
    config = parse(render_config(manifest, Path("/v"), Placement(max_batch_size=32)))
    assert config.parameters["gentle"].string_value == "true"
    assert [warmup.batch_size for warmup in config.model_warmup] == [1]


def test_a_largest_batch_of_one_is_warmed_once(manifest: ModelManifest) -> None:
    assert len(parse(render_config(manifest, Path("/v"), Placement(max_batch_size=1))).model_warmup) == 1


def test_batching_has_sizes_and_delay_but_never_a_queue_policy(manifest: ModelManifest) -> None:
    placement = Placement(preferred_batch_sizes=(16, 8), max_queue_delay_us=500)
    batching = parse(render_config(manifest, Path("/v"), placement)).dynamic_batching
    assert list(batching.preferred_batch_size) == [8, 16]
    assert batching.max_queue_delay_microseconds == 500
    # With a policy, Triton's batcher sleeps half a second over waiting requests (docs/triton.md).
    assert not batching.HasField("default_queue_policy")
    assert batching.priority_levels == 0
    assert not batching.priority_queue_policy


def test_quotes_and_backslashes_in_a_path_do_not_end_the_text(manifest: ModelManifest) -> None:
    folder = Path('/data/a "b" \\c')
    config = parse(render_config(manifest, folder, Placement()))
    assert config.parameters["version_folder"].string_value == str(folder)


def test_a_path_with_a_newline_is_refused(manifest: ModelManifest) -> None:
    with pytest.raises(InvalidInputError, match="no control characters"):
        render_config(manifest, Path("/data/a\nb"), Placement())


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        ({"instances": 0}, "instances must lie in 1..64, got 0"),
        ({"threads": 0}, "threads must lie in"),
        ({"nice": 20}, "nice must lie in"),
        ({"max_batch_size": 0}, "max_batch_size must lie in"),
        ({"max_batch_size": 4, "preferred_batch_sizes": (8,)}, r"preferred_batch_sizes must lie in 1\.\.4, got \(8,\)"),
        ({"gpus": (0,)}, "only for the device gpu"),
        ({"max_queue_delay_us": -1}, "max_queue_delay_us must lie in"),
    ],
)
def test_a_placement_that_makes_no_sense_is_refused(wrong: dict[str, object], rule: str) -> None:
    with pytest.raises(InvalidInputError, match=rule):
        Placement(**wrong)


def test_an_entry_is_a_configuration_and_a_few_lines_of_code(tmp_path: Path, manifest: ModelManifest) -> None:
    entry = write_entry(tmp_path / "repository", manifest, tmp_path / "version", Placement(nice=3))
    assert sorted(path.relative_to(entry).as_posix() for path in entry.rglob("*") if path.is_file()) == [
        "1/model.py",
        "config.pbtxt",
    ]
    code = (entry / "1" / "model.py").read_text()
    assert "from services.serving.backend.model import TritonPythonModel" in code
    assert code.index("os.nice(3)") < code.index('"OMP_NUM_THREADS"] = "1"') < code.index("services")
    several = write_entry(tmp_path / "repository", manifest, tmp_path / "version", Placement(threads=2))
    assert "gently" not in (several / "1" / "model.py").read_text()
    assert [path.name for path in entry.parent.iterdir()] == ["weld-v3"]


def test_writing_an_entry_again_replaces_it(tmp_path: Path, manifest: ModelManifest) -> None:
    write_entry(tmp_path, manifest, tmp_path, Placement(threads=1))
    entry = write_entry(tmp_path, manifest, tmp_path, Placement(threads=2))
    assert parse((entry / "config.pbtxt").read_text()).parameters["threads"].string_value == "2"


def test_removing_an_entry_twice_is_no_error(tmp_path: Path, manifest: ModelManifest) -> None:
    write_entry(tmp_path, manifest, tmp_path, Placement())
    remove_entry(tmp_path, "weld-v3")
    remove_entry(tmp_path, "weld-v3")
    assert list(tmp_path.iterdir()) == []


def test_the_explaining_configuration_is_decoupled_without_batching_on_the_same_engine(manifest: ModelManifest) -> None:
    placement = Placement(device="gpu", gpus=(1, 2), instances=3, engine="onnx", precision="float16", threads=4)
    explaining = ExplainingPlacement(nice=7, batch_size=8)
    config = parse(render_explaining_config(manifest, Path("/data/weld/3"), placement, explaining, Path("/cache")))
    assert config.name == "explain-weld-v3"
    assert config.max_batch_size == 0
    assert config.model_transaction_policy.decoupled
    assert not config.HasField("dynamic_batching")
    assert list(config.input[0].dims) == [192, 320, 3]
    assert {output.name: list(output.dims) for output in config.output} == {"MAP": [-1, -1], "FIGURES": [9]}
    assert (config.instance_group[0].count, list(config.instance_group[0].gpus)) == (1, [1])
    assert {name: value.string_value for name, value in config.parameters.items()} == {
        "version_folder": "/data/weld/3",
        "engine": "onnx",
        "precision": "float16",
        "threads": "1",
        "nice": "7",
        "batch_size": "8",
        "max_waiting": "16",
        "cache_folder": "/cache",
    }


def test_the_entries_of_a_version_and_of_its_explaining_model_lie_side_by_side(
    manifest: ModelManifest, tmp_path: Path
) -> None:
    write_entry(tmp_path / "models", manifest, tmp_path, Placement())
    entry = write_explaining_entry(tmp_path / "models", manifest, tmp_path, Placement(), ExplainingPlacement())
    assert sorted(folder.name for folder in (tmp_path / "models").iterdir()) == ["explain-weld-v3", "weld-v3"]
    assert "backend.explain_model import" in (entry / "1" / "model.py").read_text()
