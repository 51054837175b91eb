"""``sightline experiment``: measures what the product claims, on any labelled data, with one command."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from services.core.errors import InvalidInputError
from services.core.explain.attribution import METHODS, Budget

if TYPE_CHECKING:
    from services.experiments.parts import Part
    from services.experiments.study import Progress as Report
    from services.experiments.study import Study, StudySettings

experiment_app = typer.Typer(help="Measure explanations and detectors on labelled data.", no_args_is_help=True)

_OUT = Console()
_ERR = Console(stderr=True)

#: Presets: which networks and methods.
_TABLE1: Final = ("alexnet", "vgg16", "resnet18", "resnext50"), ("rise", "invrise")
PRESETS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {"table1": _TABLE1}
BASELINES: Final = ("contrast", "centre")


@experiment_app.callback()
def experiment() -> None:
    """Measure explanations and detectors on labelled data."""


@experiment_app.command()
def explain(
    data: Annotated[
        str, typer.Option(help="Labelled folder, or simulated:PRODUCT (disc, fabric, zipper, weld, thermal, mirror).")
    ],
    methods: Annotated[str, typer.Option(help=f"Comma-separated: {', '.join(METHODS)}.")] = "",
    model: Annotated[str, typer.Option(help="Comma-separated networks, or folders of model versions.")] = "",
    preset: Annotated[str, typer.Option(help="table1: the four networks of paper 1 with RISE and InvRISE.")] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Splits, trainings and mask drawings.")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where the figures are written.")] = None,
    report: Annotated[Path | None, typer.Option(help="Where the page with the contact sheet is written.")] = None,
    passes: Annotated[int, typer.Option(min=1, help="Most forward passes an explanation.")] = 1000,
    min_stability: Annotated[
        float, typer.Option(min=0, max=1, help="Stop an explanation when its map is this stable; 0 spends all passes.")
    ] = 0.0,
    parts: Annotated[int, typer.Option(min=0, help="Most parts read or drawn; 0: the folder, or 600 drawn ones.")] = 0,
    limit: Annotated[int, typer.Option(min=0, help="Most parts explained a seed; 0 for all.")] = 0,
    explained: Annotated[str, typer.Option(help="correct: flagged defective test parts (paper 1); all.")] = "correct",
    epochs: Annotated[int, typer.Option(min=0, help="Of fine-tuning; 0 fits the last layer alone.")] = 6,
    learning_rate: Annotated[float, typer.Option(min=0, help="Of fine-tuning.")] = 5e-4,
    flips: Annotated[bool, typer.Option(help="Mirror pictures in training, where a part may lie either way.")] = False,
    size: Annotated[int, typer.Option(min=32, help="Rows and columns of the network's input, pixels.")] = 224,
    batch_size: Annotated[int, typer.Option(min=2, help="Pictures of one pass.")] = 16,
    faithful: Annotated[bool, typer.Option(help="Measure deletion and insertion.")] = True,
    sheet: Annotated[int, typer.Option(min=0, help="Defective parts of each network on the contact sheet.")] = 10,
    engine: Annotated[str, typer.Option(help="auto, openvino or torch.")] = "auto",
    precision: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 for all.")] = 0,
    cache: Annotated[Path | None, typer.Option(help="Folder that keeps fitted weights between runs.")] = None,
) -> None:
    """Fit or load classifiers, explain their defective test parts, compare the maps with the masks.

    No group of parts is on both sides of a split. The baselines contrast and centre are always among the rows.
    """
    chosen_models, chosen_methods = _choose(model, methods, preset)
    for name, value, known in (
        ("--explained", explained, ("correct", "all")),
        ("--engine", engine, ("auto", "openvino", "torch")),
        ("--precision", precision, ("float32", "bfloat16")),
    ):
        if value not in known:
            raise InvalidInputError(f"{name} must be one of {', '.join(known)}, got {value!r}")
    # Imports torch and, before it, OpenVINO.
    from services.experiments.classifiers import FitSettings, resolve_model
    from services.experiments.explaining import Plan
    from services.experiments.parts import read_parts
    from services.experiments.study import StudySettings, run_study

    budget = Budget(max_passes=passes, batch_size=batch_size, min_stability=min_stability or None)
    settings = StudySettings(
        models=tuple(resolve_model(name) for name in chosen_models),
        plan=Plan(chosen_methods, budget, faithful),
        seeds=seeds,
        explained=explained,  # type: ignore[arg-type]
        limit=limit,
        sheet=sheet if report else 0,
        fit=FitSettings(
            side_px=size,
            epochs=epochs,
            learning_rate=learning_rate,
            flips=flips,
            engine=engine,  # type: ignore[arg-type]
            precision=precision,  # type: ignore[arg-type]
            threads=threads or os.cpu_count() or 1,
        ),
        cache=cache,
    )
    with _shown_progress() as progress:
        found = read_parts(data, parts, lambda share: progress("reading parts", share, ""))
        documents: list[dict[str, Any]] = []
        run_study(
            found,
            settings,
            progress,
            lambda study: documents.append(_keep(study, found, settings, data, json_file, report)),
        )
    _show(documents[-1])
    for path in (json_file, report):
        if path is not None:
            _OUT.print(f"written: {path}", highlight=False, soft_wrap=True)


@experiment_app.command()
def detectors(
    data: Annotated[
        str, typer.Option(help="Labelled folder, or simulated:PRODUCT (disc, fabric, zipper, weld, thermal, mirror).")
    ],
    chosen: Annotated[
        str, typer.Option("--detectors", help="all, or comma-separated: lof, iforest, patch-knn, ...")
    ] = "all",
    features: Annotated[
        str, typer.Option(help="Comma-separated, for all but patch-knn and utrad: raw, pca300, embedding-pca100, ...")
    ] = "embedding-pca100",
    seeds: Annotated[int, typer.Option(min=1, help="Splits and fits.")] = 1,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Where the figures are written, and resumed from.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Where the page with the curves is written.")] = None,
    size: Annotated[int, typer.Option(min=16, help="Rows and columns of the prepared pictures, pixels.")] = 224,
    parts: Annotated[int, typer.Option(min=0, help="Most parts read or drawn; 0: the folder, or 600 drawn ones.")] = 0,
    sheet: Annotated[int, typer.Option(min=0, help="Worst misses of each detector on the page.")] = 4,
) -> None:
    """Fit detectors on good parts, and compare them on held-out good and defective ones.

    All detectors of a seed have one split; no group of parts is on two sides of it. A run that finds its own figures
    goes on with them.
    """
    # These import OpenCV, torch and scikit-learn.
    from services.core.detectors.detector import DETECTORS
    from services.experiments.detecting import DetectorSettings, describe_conditions, run_comparison
    from services.experiments.detector_report import render_detectors
    from services.experiments.detector_sample import prepare_sample
    from services.experiments.detector_table import Results, write_text
    from services.experiments.parts import read_parts

    names = DETECTORS if chosen.strip() == "all" else _split(chosen)
    unknown = [name for name in names if name not in DETECTORS]
    if unknown or not names:
        raise InvalidInputError(f"--detectors must be all, or of {', '.join(DETECTORS)}, got {chosen!r}")
    settings = DetectorSettings(names, _split(features), seeds)
    if not settings.table():
        raise InvalidInputError(f"--features must name at least one pipeline, got {features!r}")
    with _shown_progress() as progress:
        found = read_parts(data, parts, lambda share: progress("reading parts", share, ""))
        sample = prepare_sample(found, size)
        results = Results(describe_conditions(sample, settings, data), json_file)
        run_comparison(sample, settings, results.add, results.done, progress)
    if report is not None:
        write_text(report, render_detectors(results.document, results.traces, found, sheet))
    _show_detectors(results.rows)
    for path in (json_file, report):
        if path is not None:
            _OUT.print(f"written: {path}", highlight=False, soft_wrap=True)


@experiment_app.command("two-stage")
def two_stage(
    data: Annotated[
        str, typer.Option(help="Labelled folder, or simulated:PRODUCT (disc, fabric, zipper, weld, thermal, mirror).")
    ],
    chosen: Annotated[
        str, typer.Option("--detectors", help="all, or comma-separated: a pipeline for each of iforest, lof, ...")
    ] = "iforest,lof",
    features: Annotated[str, typer.Option(help="Pipeline of the fifteen's features.")] = "embedding-pca64",
    classifier: Annotated[str, typer.Option(help="Network that is fitted to the verdicts.")] = "efficientnet-lite0",
    methods: Annotated[str, typer.Option(help=f"What explains it, comma-separated: {', '.join(METHODS)}.")] = (
        "gradcam,lime"
    ),
    margin: Annotated[
        float, typer.Option(help="How far from the threshold a pseudo-labelled score lies, 0 to 0.5.")
    ] = 0.1,
    false_rejects: Annotated[float, typer.Option(help="Share of good parts that the detector may reject.")] = 0.05,
    contamination: Annotated[float, typer.Option(help="Largest share of defects in the unlabelled pool.")] = 0.3,
    seeds: Annotated[int, typer.Option(min=1, help="Splits and fits.")] = 1,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Where the figures are written, and resumed from.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Where the page with the tables is written.")] = None,
    size: Annotated[int, typer.Option(min=32, help="Rows and columns of the prepared pictures, pixels.")] = 224,
    parts: Annotated[int, typer.Option(min=0, help="Most parts read or drawn; 0: the folder, or 600 drawn ones.")] = 0,
    epochs: Annotated[int, typer.Option(min=1, help="Most passes of the training over the pool.")] = 8,
    limit: Annotated[int, typer.Option(min=0, help="Most defective parts whose maps are measured; 0: all.")] = 40,
    passes: Annotated[int, typer.Option(min=1, help="Most forward passes an explanation.")] = 300,
    engine: Annotated[str, typer.Option(help="auto, openvino or torch.")] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """Fit a network to a detector's verdicts, explain it, and compare it with detectors that find places themselves.

    Detectors are fitted on good parts, label a mixed pool whose labels nobody reads, and a network is fitted to that;
    all are tested on parts that neither has seen. patch-knn and utrad, with their own maps, are always among the rows.
    A run that finds its own figures goes on with them.
    """
    # OpenVINO comes before torch.
    from services.experiments.two_stage import TwoStageSettings, run_two_stage, two_stage_conditions  # isort: skip
    from services.core.detectors.detector import DETECTORS
    from services.core.detectors.features import parse_features
    from services.core.models.factory import ARCHITECTURES
    from services.experiments.detector_sample import prepare_sample
    from services.experiments.detector_table import write_text
    from services.experiments.parts import read_parts
    from services.experiments.two_stage_report import render_two_stage
    from services.experiments.two_stage_table import TwoStageResults

    names = DETECTORS if chosen.strip() == "all" else _split(chosen)
    explaining = _split(methods)
    for option, given, known in (
        ("--detectors", names, DETECTORS),
        ("--methods", explaining, METHODS),
        ("--classifier", (classifier,), ARCHITECTURES),
        ("--engine", (engine,), ("auto", "openvino", "torch")),
    ):
        if not given or not set(given) <= set(known):
            raise InvalidInputError(f"{option} must be of {', '.join(known)}, got {', '.join(given)!r}")
    parse_features(features)
    settings = TwoStageSettings(
        names,
        features,
        classifier,
        explaining,
        margin=margin,
        false_rejects=false_rejects,
        contamination=contamination,
        seeds=seeds,
        epochs=epochs,
        limit=limit,
        passes=passes,
        engine=engine,  # type: ignore[arg-type]
        threads=threads,
    )
    with _shown_progress() as progress:
        found = read_parts(data, parts, lambda share: progress("reading parts", share, ""))
        sample = prepare_sample(found, size)
        results = TwoStageResults(two_stage_conditions(sample, settings, data), json_file)
        run_two_stage(found, sample, settings, results.add, results.done(settings.stages()), progress)
    if report is not None:
        write_text(report, render_two_stage(results.document))
    _show_two_stage(results.rows)
    for path in (json_file, report):
        if path is not None:
            _OUT.print(f"written: {path}", highlight=False, soft_wrap=True)


def _choose(model: str, methods: str, preset: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if preset and preset not in PRESETS:
        raise InvalidInputError(f"--preset must be one of {', '.join(PRESETS)}, got {preset!r}")
    models: tuple[str, ...]
    names: tuple[str, ...]
    models, names = PRESETS.get(preset, (("efficientnet-lite0",), METHODS))
    if model:
        models = _split(model)
    if methods:
        names = _split(methods)
    unknown = [name for name in names if name not in METHODS]
    if unknown:
        raise InvalidInputError(f"--methods must be of {', '.join(METHODS)}, got {', '.join(unknown)}")
    return models, tuple(dict.fromkeys((*names, *BASELINES)))


def _split(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _keep(
    study: Study,
    parts: Sequence[Part],
    settings: StudySettings,
    source: str,
    json_file: Path | None,
    report: Path | None,
) -> dict[str, Any]:
    from services.experiments.report import render
    from services.experiments.study import conditions
    from services.experiments.table import to_json

    text = to_json(study.records, study.verdicts, conditions(study, parts, settings, source))
    document: dict[str, Any] = json.loads(text)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(text, encoding="utf-8")
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(render(document, study.sheet, study.scales), encoding="utf-8")
    return document


def _show(document: dict[str, Any]) -> None:
    """Means alone; the intervals are in the files."""
    from services.experiments.report import COLUMNS

    table = Table("model", "method", "n", "accuracy", box=None)
    for _, title, _, _ in COLUMNS:
        table.add_column(title, justify="right")
    for row in document["rows"]:
        means = [(row[name]["mean"], digits) for name, _, digits, _ in COLUMNS]
        figures = ["-" if mean is None else f"{mean:.{digits}f}" for mean, digits in means]
        table.add_row(row["model"], row["method"], str(row["n"]), f"{row['model_accuracy']:.3f}", *figures)
    _OUT.print(table)


def _show_detectors(rows: Sequence[dict[str, Any]]) -> None:
    """Means alone, and what became of detectors that failed."""
    from services.experiments.detector_report import DETECTOR_COLUMNS

    table = Table("detector", "features", box=None)
    for _, title, _, _ in DETECTOR_COLUMNS:
        table.add_column(title, justify="right")
    for row in rows:
        if "error" in row:
            continue
        means = [(row[name]["mean"], digits) for name, _, digits, _ in DETECTOR_COLUMNS]
        figures = ["-" if mean is None else f"{mean:.{digits}f}" for mean, digits in means]
        table.add_row(row["detector"], row["features"], *figures)
    _OUT.print(table)
    for row in rows:
        if "error" in row:
            _OUT.print(f"{row['detector']} ({row['features']}): {row['error']}", highlight=False, soft_wrap=True)


def _show_two_stage(rows: Sequence[dict[str, Any]]) -> None:
    """Means over all kinds of anomaly, and what became of pipelines that failed."""
    from services.experiments.two_stage import ALL
    from services.experiments.two_stage_report import TWO_STAGE_COLUMNS
    from services.experiments.two_stage_table import stage_name

    table = Table("model", "map", box=None)
    for _, title, _, _ in TWO_STAGE_COLUMNS:
        table.add_column(title, justify="right")
    for row in rows:
        if "error" in row or row["kind"] != ALL:
            continue
        means = [(row[name]["mean"], digits) for name, _, digits, _ in TWO_STAGE_COLUMNS]
        figures = ["-" if mean is None else f"{mean:.{digits}f}" for mean, digits in means]
        table.add_row(stage_name(row), row["method"], *figures)
    _OUT.print(table)
    for row in rows:
        if "error" in row:
            _OUT.print(f"{stage_name(row)} ({row['method']}): {row['error']}", highlight=False, soft_wrap=True)


@contextmanager
def _shown_progress() -> Iterator[Report]:
    columns = (TextColumn("{task.fields[stage]}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=_ERR, transient=True) as bar:
        task = bar.add_task("", total=1.0, stage="")

        def report(stage: str, share: float, what: str) -> None:
            bar.update(task, completed=share, description=what, stage=stage)

        yield report
