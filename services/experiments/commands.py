"""``sightline experiment``: measures what the product claims, on any labelled data, with one command."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from services.core.errors import InvalidInputError
from services.core.explain.attribution import METHODS, Budget

if TYPE_CHECKING:
    from services.core.selection.refutations import RefutationSettings
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
def ceod(
    data: Annotated[str | None, typer.Option(help="Labelled folder, or simulated:PRODUCT.")] = None,
    aoi: Annotated[
        str | None,
        typer.Option(help="Where defects count: masks, box:x0,y0,x1,y1, file:PATH; truth on the simulated line."),
    ] = None,
    relabel: Annotated[str, typer.Option(help="Classes that do not count: CLASS=good, comma-separated.")] = "",
    arms: Annotated[str | None, typer.Option(help="Losses, comma-separated: ce, ceod, ceod-paper.")] = None,
    networks: Annotated[
        str | None, typer.Option(help="Comma-separated; NAME:tl trains the last layer, NAME:ft 20 convolutions more.")
    ] = None,
    preset: Annotated[str, typer.Option(help="quick: minutes on two cores; paper: as paper 2.")] = "",
    seeds: Annotated[int | None, typer.Option(min=1, help="Splits and trainings.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Where the figures are written, and resumed from.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Where the page with the maps is written.")] = None,
    omega: Annotated[float | None, typer.Option(min=0, help="Weight of the overlap distance in ceod.")] = None,
    quantile: Annotated[float, typer.Option(help="Share of a map that is not hot, 0 to 1.")] = 0.9,
    size: Annotated[str | None, typer.Option(help="Rows and columns of the input, pixels: 224, or 96x48.")] = None,
    parts: Annotated[
        int | None, typer.Option(min=0, help="Most parts read or drawn; 0: the folder, or 400 drawn ones.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Most passes of a training.")] = None,
    patience: Annotated[
        int | None, typer.Option(min=1, help="Epochs without a lower validation loss before it ends.")
    ] = None,
    split: Annotated[str, typer.Option(help="Percents that train, choose the best epoch and test.")] = "70,20,10",
    batch_size: Annotated[int, typer.Option(min=2, help="Pictures of a step.")] = 32,
    learning_rate: Annotated[float, typer.Option(min=0, help="Of Adamax.")] = 2e-3,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of each process.")] = 1,
    processes: Annotated[int, typer.Option(min=1, help="Trainings beside each other, each in a process.")] = 1,
) -> None:
    """Train networks with cross-entropy and with CEOD, and compare what they find where defects count.

    Good parts whose flaws do not count are distractors. All losses of a seed have one split, one start and one order;
    no group of parts is on two sides. A run that finds its own figures goes on with them.
    """
    from services.adapters.areas import parse_area
    from services.core.losses.ceod_settings import CeodSettings
    from services.experiments.ceod import CeodPlan, ceod_conditions, choose_arms, parse_network, run_ceod
    from services.experiments.ceod_presets import choose_preset
    from services.experiments.ceod_report import render_ceod
    from services.experiments.ceod_sample import (
        parse_relabel,
        parse_shares,
        parse_size,
        prepare_area_sample,
        read_area_parts,
    )
    from services.experiments.ceod_table import CeodResults
    from services.experiments.figures_file import write_text

    told: dict[str, Any] = {"data": data, "area": aoi, "arms": arms, "networks": networks, "seeds": seeds, "size": size}
    told |= {"parts": parts, "epochs": epochs, "patience": patience, "omega": omega}
    chosen = choose_preset(preset, told)
    area, relabelled, shape = parse_area(chosen.area), parse_relabel(relabel), parse_size(chosen.size)
    plan = CeodPlan(
        tuple(parse_network(name) for name in _split(chosen.networks)),
        choose_arms(_split(chosen.arms)),
        seeds=chosen.seeds,
        loss=CeodSettings(omega=chosen.omega, quantile=quantile),
        epochs=chosen.epochs,
        patience=chosen.patience,
        batch_size=batch_size,
        learning_rate=learning_rate,
        shares=parse_shares(split),
        device=device,
        threads=threads,
        processes=processes,
    )
    with _shown_progress() as progress:
        read = read_area_parts(
            chosen.data,
            chosen.parts,
            area,
            relabelled,
            least_px=min(shape),
            progress=lambda share: progress("reading parts", share, ""),
        )
        sample = prepare_area_sample(read, shape)
        results = CeodResults(ceod_conditions(sample, plan, chosen.data, chosen.area, sorted(relabelled)), json_file)
        run_ceod(sample, plan, results.add, results.done, progress)
    document = results.document
    if report is not None:
        write_text(report, render_ceod(document, results.trials, sample))
    _show_ceod(document)
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
    from services.experiments.detector_table import Results
    from services.experiments.figures_file import write_text
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
    from services.experiments.figures_file import write_text
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


@experiment_app.command("near-caipi")
def near_caipi(
    data: Annotated[
        str, typer.Option(help="Labelled folder, or simulated:PRODUCT (disc, fabric, zipper, weld, thermal, mirror).")
    ],
    strategies: Annotated[
        str, typer.Option(help="Comma-separated: random, al, near-al, caipi, near-caipi.")
    ] = "random,al,near-al,caipi,near-caipi",
    rounds: Annotated[int, typer.Option(min=1, help="Trainings after the first.")] = 10,
    per_round: Annotated[int, typer.Option(min=1, help="Parts that are judged before each.")] = 42,
    start: Annotated[int, typer.Option(min=4, help="Parts of the first training.")] = 211,
    seeds: Annotated[int, typer.Option(min=1, help="Splits, starts and draws; strategies of a seed share them.")] = 5,
    model: Annotated[str, typer.Option(help="Network; efficientnet-lite0, or resnet18 as in the paper.")] = "",
    taps: Annotated[
        str | None,
        typer.Option(help="Blocks of efficientnet-lite0 whose pooled outputs join the embedding; empty for none."),
    ] = None,
    epochs: Annotated[
        int, typer.Option(min=0, help="Most passes of a training of all layers; 0 fits the last layer alone.")
    ] = 0,
    learning_rate: Annotated[float, typer.Option(min=0, help="Of SGD with momentum 0.9, with epochs.")] = 1e-3,
    refutations: Annotated[
        str, typer.Option(help="How many of each: zoom-in,zoom-out,move,light,paste.")
    ] = "1,1,2,1,2",
    flips: Annotated[bool, typer.Option(help="Mirror refutations, where a part may lie either way.")] = False,
    accept: Annotated[
        float, typer.Option(min=0, max=1, help="The operator accepts maps with this Dice; 0 always corrects.")
    ] = 0.0,
    neighbour_labels: Annotated[str, typer.Option(help="Class of a neighbour: prediction, or truth.")] = "prediction",
    own_group: Annotated[
        bool, typer.Option(help="Near hits and misses may be of the group of the part that was asked about.")
    ] = False,
    weigh: Annotated[
        str,
        typer.Option(
            help="answers: a part with its refutations counts as one part; pictures: each counts alike, as in the "
            "paper."
        ),
    ] = "answers",
    preset: Annotated[
        str,
        typer.Option(
            help="quick: 3 seeds of a small run, minutes on two cores; paper: ResNet-18, all layers, 5 seeds."
        ),
    ] = "",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Where the figures are written, and resumed from.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Where the page with the curves is written.")] = None,
    size: Annotated[int, typer.Option(min=32, help="Rows and columns of the network's input, pixels.")] = 224,
    parts: Annotated[int, typer.Option(min=0, help="Most parts read or drawn; 0: the folder, or 600 drawn ones.")] = 0,
    explained: Annotated[
        int, typer.Option(min=0, help="Most defective test parts whose maps are measured; 0: all.")
    ] = 60,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    precision: Annotated[str, typer.Option(help="float32 or bfloat16, where all layers are trained.")] = "float32",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of each process.")] = 1,
    processes: Annotated[int, typer.Option(min=1, help="Runs beside each other, each in a process.")] = 1,
) -> None:
    """Let a simulated operator teach a network, with and without near hits and misses, with and without refutations.

    Tables 2 and 3 of the paper. No group of parts is in two of the four sets. A run that finds its own figures goes on
    with them.
    """
    # These import OpenCV and torch.
    from services.core.models.factory import ARCHITECTURES
    from services.experiments.figures_file import write_text
    from services.experiments.near_caipi import (
        InteractiveSettings,
        interactive_conditions,
        prepare_parts,
        run_interactive,
        usable_strategies,
    )
    from services.experiments.near_caipi_report import render_near_caipi
    from services.experiments.near_caipi_table import InteractiveResults
    from services.experiments.parts import read_parts

    if preset not in ("", "quick", "paper"):
        raise InvalidInputError(f"--preset must be quick or paper, got {preset!r}")
    if preset == "quick":
        rounds, per_round, start, seeds, size, explained = 5, 16, 40, 3, 128, 20
        parts = parts or 400
    if preset == "paper":
        model, taps, epochs = model or "resnet18", taps or "", epochs or 100
    model, taps = model or "efficientnet-lite0", "10" if taps is None else taps
    for option, given, known in (
        ("--model", model, ARCHITECTURES),
        ("--neighbour-labels", neighbour_labels, ("prediction", "truth")),
        ("--weigh", weigh, ("answers", "pictures")),
        ("--precision", precision, ("float32", "bfloat16")),
    ):
        if given not in known:
            raise InvalidInputError(f"{option} must be one of {', '.join(known)}, got {given!r}")
    settings = InteractiveSettings(
        _split(strategies),
        rounds=rounds,
        per_round=per_round,
        start=start,
        seeds=seeds,
        model=model,
        options=(("taps", taps),) if taps and model == "efficientnet-lite0" else (),
        side_px=size,
        epochs=epochs,
        learning_rate=learning_rate,
        refutations=_refutations(refutations, flips),
        accept_overlap=accept or None,
        truth_neighbours=neighbour_labels == "truth",
        own_group=own_group,
        weigh=weigh,  # type: ignore[arg-type]  # one of the two, as checked above
        explained=explained,
        device=device,
        precision=precision,  # type: ignore[arg-type]  # likewise
        threads=threads,
        processes=processes,
    )
    with _shown_progress() as progress:
        found = prepare_parts(read_parts(data, parts, lambda share: progress("reading parts", share, "")), size)
        usable, left_out = usable_strategies(found, settings.strategies)
        if not usable:
            raise InvalidInputError(
                f"--strategies must hold one that needs no masks, as there are none, got {strategies!r}"
            )
        settings = replace(settings, strategies=usable)
        conditions = interactive_conditions(found, settings, data, left_out)
        results = InteractiveResults(conditions, json_file)
        journals = None if json_file is None else json_file.with_name(f"{json_file.stem}.rounds")
        run_interactive(found, settings, results.add, results.done, progress, journals, conditions)
    if report is not None:
        write_text(report, render_near_caipi(results.document))
    _show_near_caipi(results.document)
    if left_out:
        _OUT.print(f"left out, as the data have no masks: {', '.join(left_out)}", highlight=False, soft_wrap=True)
    for path in (json_file, report):
        if path is not None:
            _OUT.print(f"written: {path}", highlight=False, soft_wrap=True)


def _refutations(text: str, flips: bool) -> RefutationSettings:
    from services.core.selection.refutations import RefutationSettings

    try:
        zoom_in, zoom_out, move, light, paste = (int(count) for count in text.split(","))
    except ValueError as error:
        raise InvalidInputError(f"--refutations must be five counts such as 1,1,2,1,2, got {text!r}") from error
    return RefutationSettings(zoom_in, zoom_out, move, light, paste, flips=flips)


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


def _show_ceod(document: dict[str, Any]) -> None:
    """Means of the test parts, mean differences from cross-entropy, and what became of networks that failed."""
    from services.experiments.ceod_report import CEOD_TERMINAL

    for at in dict.fromkeys(row["at"] for row in document["rows"] if "error" not in row):
        table = Table("network", "loss", box=None, title=f"test, {at}", title_justify="left")
        for _, title in CEOD_TERMINAL:
            table.add_column(title, justify="right")
        for row in (*document["rows"], *document["paired"]):
            if (row["split"], row["at"]) == ("test", at):
                loss = f"{row['arm']} - {row['against']}" if "against" in row else row["arm"]
                means = [row[name]["mean"] for name, _ in CEOD_TERMINAL]
                figures = ["-" if mean is None else f"{mean:.3f}" for mean in means]
                table.add_row(row["network"], loss, *figures)
        _OUT.print(table)
    for row in document["rows"]:
        if "error" in row:
            _OUT.print(f"{row['network']}, {row['arm']}: {row['error']}", highlight=False, soft_wrap=True)


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


def _show_near_caipi(document: dict[str, Any]) -> None:
    """What the strategies reach, and what one has over another."""
    from services.experiments.near_caipi_report import TITLES
    from services.experiments.report import shown

    table = Table("strategy", "seeds", "area under MCC", *(f"last {title}" for title in TITLES.values()), box=None)
    for row in document["rows"]:
        last = [shown(row["rounds"][name][-1], 3) for name in TITLES]
        table.add_row(row["strategy"], str(row["seeds"]), shown(row["mcc_area"], 3), *last)
    _OUT.print(table)
    pairs = Table("pair", "seeds", "area under MCC", box=None)
    for pair in document["paired"]:
        pairs.add_row(f"{pair['a']} - {pair['b']}", str(pair["seeds"]), shown(pair["mcc_area_difference"], 3))
    _OUT.print(pairs)


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
