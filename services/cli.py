"""The ``sightline`` command: one subcommand per service, and what a person does by hand.

Everything heavy is imported by the subcommand that needs it, so that ``--help`` answers at once and the images of
ingest and dashboard carry no model code.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import getpass
import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version as package_version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from services.core.errors import SettingsError, SightlineError
from services.experiments.commands import experiment_app

if TYPE_CHECKING:
    from services.adapters.connection import KafkaConnection
    from services.adapters.feedbackclient import FeedbackClient
    from services.adapters.modelregistry import ModelRegistry
    from services.adapters.modelstore import ModelStore
    from services.adapters.ports import ObjectStore, RecordWriter
    from services.core.review import Review
    from services.core.types import AliasState
    from services.local.linefile import CommandSettings
    from services.runtime.settings import ServiceSettings
    from services.trainer.detector_version import FitOrder, Origin
    from services.trainer.ranking import Ranking
    from services.trainer.sources import Collected

app = typer.Typer(
    help="Visual inspection of production lines: images in, verdicts and their reasons out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
topics_app = typer.Typer(help="The topics that the services speak through.", no_args_is_help=True)
models_app = typer.Typer(help="Model versions, and which one of them decides.", no_args_is_help=True)
reviews_app = typer.Typer(help="What people said of cases.", no_args_is_help=True)
index_app = typer.Typer(help="The index of cases and reviews.", no_args_is_help=True)
app.add_typer(topics_app, name="topics", rich_help_panel="By hand")
app.add_typer(models_app, name="models", rich_help_panel="By hand")
app.add_typer(reviews_app, name="reviews", rich_help_panel="By hand")
app.add_typer(index_app, name="index", rich_help_panel="By hand")
app.add_typer(experiment_app, name="experiment", rich_help_panel="By hand")

SERVICES = ("ingest", "detector", "explainer", "feedback", "serving", "dashboard")

_OUT = Console()
_ERR = Console(stderr=True)

Alias = Annotated[str, typer.Option(help="Name that a product's models go by.")]
Note = Annotated[str, typer.Option(help="Why, for the record.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def main() -> None:
    """Run the command; errors of the domain become one clear line and an exit code.

    Exit codes: 0 done, 1 failed, 2 wrong arguments or settings, 130 interrupted.
    """
    try:
        app()
    except SettingsError as error:
        _ERR.print(f"sightline: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    except SightlineError as error:
        _ERR.print(f"sightline: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


# ---- services


def _serve(name: str) -> None:
    """Run a service in this process; it configures itself from the environment."""
    importlib.import_module(f"services.{name}.__main__").main()


@app.command(rich_help_panel="Services")
def ingest() -> None:
    """Read cameras, folders and videos and publish their frames."""
    _serve("ingest")


@app.command(rich_help_panel="Services")
def detector() -> None:
    """Score frames on Triton and publish verdicts and cases."""
    _serve("detector")


@app.command(rich_help_panel="Services")
def explainer() -> None:
    """Explain cases: where the model saw the reason of its verdict."""
    _serve("explainer")


@app.command(rich_help_panel="Services")
def feedback() -> None:
    """Keep the record of cases and of what people say of them."""
    _serve("feedback")


@app.command(rich_help_panel="Services")
def serving() -> None:
    """Keep the right model versions loaded in the Triton beside it."""
    _serve("serving")


@app.command(rich_help_panel="Services")
def dashboard() -> None:
    """Serve the page for the people at the line."""
    _serve("dashboard")


# ---- a line on this machine


@app.command(rich_help_panel="On this machine")
def run(
    data: Annotated[Path, typer.Option(help="Folder for everything that the line keeps.")] = Path(".sightline"),
    cameras: Annotated[
        Path | None, typer.Option(help="Settings of ingest (YAML) instead of the simulated cameras.", exists=True)
    ] = None,
    port: Annotated[int, typer.Option(help="Port of the page; the next free one if it is taken.")] = 8080,
    keep_hours: Annotated[float, typer.Option(min=0.1, help="How long images of frames are kept.")] = 2.0,
    fresh: Annotated[bool, typer.Option(help="Begin with an empty data folder.")] = False,
) -> None:
    """Start a whole line on this machine, with its page, until Ctrl-C."""
    from services.local.runner import RunOptions, run_line

    raise typer.Exit(run_line(RunOptions(data, cameras, port, keep_hours, fresh)))


@app.command(rich_help_panel="On this machine")
def smoke(
    frames: Annotated[
        int | None, typer.Option(min=1, help="Frames to send; with --source at most this many files.")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            help="Send each file of this folder once instead of simulated parts.", exists=True, file_okay=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on the last line.")] = False,
    keep: Annotated[bool, typer.Option(help="Keep the data and the logs.")] = False,
    timeout_s: Annotated[float, typer.Option(min=1, help="Longest time without any progress.")] = 120.0,
) -> None:
    """Start a line of its own, send frames, wait for every verdict and explanation, count, stop.

    Exits with 0 only when no frame was lost or doubled and every case came out of the explainer.
    """
    from services.local.smoke import SmokeOptions, run_smoke

    raise typer.Exit(run_smoke(SmokeOptions(frames, source, as_json, keep, timeout_s)))


@app.command("fit-starter", rich_help_panel="On this machine")
def fit_starter(
    folder: Annotated[Path, typer.Argument(help="Folder of the new model version; must not exist.")],
    seed: Annotated[int, typer.Option(min=0, help="Which parts are drawn, and how they are split.")] = 0,
    version: Annotated[int, typer.Option(min=1, help="Number of the version.")] = 1,
    alias: Alias = "default",
    progress: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Fit a model on simulated discs and fabric, in under a minute, and write it as a model version."""
    from rich.progress import Progress

    from services.local.model import write_progress
    from services.local.starter import fit_starter as fit

    with Progress(console=_ERR, transient=True, disable=progress is not None) as bar:
        task = bar.add_task("starting", total=1.0)

        def report(share: float, what: str) -> None:
            bar.update(task, completed=share, description=what)
            if progress is not None:
                write_progress(progress, share, what)

        manifest = fit(folder, seed=seed, progress=report, alias=alias, version=version)
    auroc = manifest.metrics.get("auroc")
    figure = f", AUROC {auroc.value:.4f} on {auroc.n} held-out parts" if auroc else ""
    _OUT.print(f"{folder}: {manifest.alias} version {manifest.version}{figure}", highlight=False, soft_wrap=True)


Features = Annotated[
    str, typer.Option(help="Of the fifteen: raw, pca300, pca300-rbf, embedding, embedding-pca100, ...")
]
Backbone = Annotated[str, typer.Option(help="Network of features that need one.")]
Options = Annotated[
    list[str] | None,
    typer.Option(help="NAME=VALUE for the detector, DETECTOR.NAME=VALUE for one of a panel; may be repeated."),
]
Size = Annotated[int, typer.Option(min=8, help="Rows and columns of its input, pixels.")]
FalseRejects = Annotated[float, typer.Option(help="Largest share of good parts to reject.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the split and of everything random.")]


@app.command("fit", rich_help_panel="By hand")
def fit(
    detector: Annotated[
        list[str],
        typer.Option(
            help="Which: patch-knn, utrad, lof, lof:embedding-pca64, ... (docs/detectors.md); several are a panel."
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            help="Labelled folder, or plain one of good parts; s3://PREFIX of a labelled one; or line (with --since)."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the new model version; must not exist.")],
    features: Features = "embedding",
    backbone: Backbone = "efficientnet-lite0",
    option: Options = None,
    size: Size = 224,
    false_rejects: FalseRejects = 0.01,
    seed: Seed = 0,
    version: Annotated[int, typer.Option(min=1, help="Number of the version.")] = 1,
    alias: Alias = "default",
    since: Annotated[str, typer.Option(help="From when (with --data line): ISO 8601, or 90m, 2h, 3d ago.")] = "",
    until: Annotated[str, typer.Option(help="Up to when (with --data line); now if not said.")] = "",
    camera: Annotated[list[str] | None, typer.Option(help="Only this camera (line); may be repeated.")] = None,
    product: Annotated[str, typer.Option(help="Only this product (line).")] = "",
    passed_only: Annotated[bool, typer.Option(help="Only what the live model passed (line).")] = False,
    most: Annotated[int, typer.Option(min=1, help="Most frames; a uniform sample of more (line).")] = 2000,
    unlabelled: Annotated[
        Path | None,
        typer.Option(help="Fit a network to the detector's verdicts on this folder.", exists=True, file_okay=False),
    ] = None,
    classifier: Annotated[str, typer.Option(help="That network; efficientnet-lite0 if none is named.")] = "",
    margin: Annotated[float, typer.Option(help="How close to the detector's threshold no verdict is learned.")] = 0.1,
    epochs: Annotated[int, typer.Option(min=1, help="Most passes of the network's training.")] = 12,
) -> None:
    """Fit a detector on good parts and write it as a model version, for `sightline models add`.

    With --unlabelled the version is a network that was fitted to the detector's verdicts on that folder.
    """
    from services.trainer.detector_version import fit_version

    order = _fit_order(detector, features, backbone, option, size, false_rejects, seed, version, alias)
    asked = _LineOptions(since, until, tuple(camera or ()), product, passed_only, most)
    if classifier and unlabelled is None:
        raise typer.BadParameter(f"--classifier must come with --unlabelled, got {classifier!r} alone")
    with _bar() as report, _images_of(data, asked, seed, report) as (folder, origin):
        order = dataclasses.replace(order, origin=origin)
        if unlabelled is None:
            manifest = fit_version(folder, order, out, report)
        else:
            from services.trainer.two_stage_version import DEFAULT_CLASSIFIER, TwoStageOrder, fit_two_stage_version

            two = TwoStageOrder(order, classifier or DEFAULT_CLASSIFIER, margin, epochs)
            manifest = fit_two_stage_version(folder, unlabelled, two, out, report)
    figures = ", ".join(f"{name} {metric.value:.3f}" for name, metric in sorted(manifest.metrics.items()))
    _OUT.print(f"{out}: {manifest.alias} version {manifest.version}, {manifest.lineage.description}", soft_wrap=True)
    _OUT.print(figures, highlight=False, soft_wrap=True)


@app.command("rank", rich_help_panel="By hand")
def rank(
    data: Annotated[Path, typer.Option(help="Folder of unlabelled pictures.", exists=True, file_okay=False)],
    version: Annotated[
        Path | None, typer.Option(help="Folder of a model version that ranks them.", exists=True, file_okay=False)
    ] = None,
    detector: Annotated[
        list[str] | None,
        typer.Option(help="In place of --version: the detector to fit on --good first; several are a panel."),
    ] = None,
    good: Annotated[Path | None, typer.Option(help="Folder of good parts to fit on.", file_okay=False)] = None,
    keep: Annotated[Path | None, typer.Option(help="Where the fitted version is kept.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the scores, the list and the page.")] = Path("ranked"),
    top: Annotated[int, typer.Option(min=1, help="Pictures on the page, and sent to review.")] = 50,
    page: Annotated[bool, typer.Option(help="Explain the top and write the page.")] = True,
    review: Annotated[bool, typer.Option(help="Send the top to review on the running line.")] = False,
    line: Annotated[str, typer.Option(help="Line that they are shown under in review.")] = "archive",
    camera: Annotated[str, typer.Option(help="Camera that they are shown under in review.")] = "search",
    product: Annotated[str, typer.Option(help="Product that they are shown as; the version's alias if not said.")] = "",
    features: Features = "embedding",
    backbone: Backbone = "efficientnet-lite0",
    option: Options = None,
    size: Size = 224,
    false_rejects: FalseRejects = 0.01,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Search an archive: score every picture, list the most anomalous first, show where they are.

    Goes on where it was when it is run again after it was cut short.
    """
    from services.trainer.fitted import FittedVersion
    from services.trainer.ranking import RANKED, rank_archive
    from services.trainer.review import ReviewPlace, check_registered, send_to_review

    if (version is None) == (not detector) or bool(detector) != (good is not None) or (keep and version):
        raise typer.BadParameter("either --version, or --detector with --good (and --keep) must be given")
    place = ReviewPlace(line, camera, product)
    if review and version is None:
        raise typer.BadParameter("--review needs --version: a version that the line knows, see sightline models add")
    with _bar() as report:
        folder = version
        if folder is None:
            from services.adapters.datasets import read_good_folder
            from services.trainer.detector_version import fit_once

            order = _fit_order(detector or [], features, backbone, option, size, false_rejects, seed, 1, "default")
            folder = keep or out / "version"
            fit_once(read_good_folder(good or Path()), order, folder, report)
        fitted = FittedVersion(folder)
        if review:
            with _registry() as registry, _model_store() as models:
                check_registered(fitted.manifest, registry, models, folder)
        found = rank_archive(
            fitted,
            data,
            out,
            top,
            lambda at: report(
                at.done / at.total, f"{at.done} of {at.total}, {at.flagged_per_1000:.1f} of 1000 flagged"
            ),
        )
        shown = None
        if page:
            from services.trainer.rank_report import write_rank_report

            shown = write_rank_report(fitted, data, found, out, report)
        sent: list[str] = []
        if review:
            with _objects() as store, _writer() as writer:
                sent = send_to_review(
                    fitted, data, found.top, place, store, writer, lambda share: report(share, "sending to review")
                )
    written = {"list": str(out / RANKED), "page": str(shown) if shown else None, "review": sent}
    if as_json:
        sys.stdout.write(json.dumps(found.as_json() | written) + "\n")
        return
    _show_ranking(found, written)


def _show_ranking(found: Ranking, written: dict[str, Any]) -> None:
    table = Table("rank", "score", "verdict", "uncertainty", "file", box=None)
    for one in found.top[:10]:
        table.add_row(str(one.rank), f"{one.score:.4f}", one.verdict, f"{one.uncertainty:.2f}", one.file)
    _OUT.print(table)
    told = found.as_json()
    rate = "" if told["images_per_s"] is None else f", {told['images_per_s']:.1f} a second"
    rates = [told["flagged_per_1000"], told["review_per_1000"]]
    flagged, unsure = ("-" if each is None else f"{each:.1f}" for each in rates)
    _OUT.print(
        f"{told['scored']} pictures scored{rate}; of 1000: {flagged} flagged, {unsure} for review",
        highlight=False,
        soft_wrap=True,
    )
    if found.broken:
        names = ", ".join(f"{name} ({reason})" for name, reason in found.broken_files[:5])
        _ERR.print(f"{found.broken} files could not be used: {names}", markup=False, highlight=False, soft_wrap=True)
    for name in ("list", "page"):
        if written[name]:
            _OUT.print(f"{name}: {written[name]}", highlight=False, soft_wrap=True)
    if written["review"]:
        _OUT.print(f"sent to review: {len(written['review'])}", highlight=False)


def _fit_order(
    detector: list[str],
    features: str,
    backbone: str,
    option: list[str] | None,
    size: int,
    false_rejects: float,
    seed: int,
    version: int,
    alias: str,
) -> FitOrder:
    from services.core.detectors.panel import named_spec
    from services.core.preprocessing import Preprocessing
    from services.trainer.detector_version import FitOrder

    return FitOrder(
        named_spec(detector, features, backbone, seed, dict(_option(text) for text in option or ())),
        alias,
        version,
        Preprocessing(height_px=size, width_px=size),
        false_rejects,
        review_target=max(0.05, false_rejects),
    )


@dataclasses.dataclass(frozen=True)
class _LineOptions:
    """What only ``--data line`` takes."""

    since: str = ""
    until: str = ""
    cameras: tuple[str, ...] = ()
    product: str = ""
    passed_only: bool = False
    most: int = 2000


@contextmanager
def _images_of(
    data: str, asked: _LineOptions, seed: int, report: Callable[[float, str], None]
) -> Iterator[tuple[Path, Origin]]:
    """The labelled folder that ``--data`` means; one that had to be collected is gone at the end."""
    from services.trainer.detector_version import Origin

    if data != "line" and asked != _LineOptions():
        raise typer.BadParameter(
            f"--since, --until, --camera, --product, --passed-only and --most need --data line, got --data {data}"
        )
    if data != "line" and not data.startswith("s3://"):
        if not Path(data).is_dir():
            raise typer.BadParameter(
                f"--data must be a folder, s3://PREFIX or line, got {data!r}, which does not exist"
            )
        yield Path(data), Origin()
        return
    from services.trainer.sources import collect_from_store

    with tempfile.TemporaryDirectory(prefix="sightline-fit-") as name, _objects() as store:
        folder = Path(name)
        if data == "line":
            collected = _from_line(asked, seed, store, folder, report)
        else:
            collected = collect_from_store(store, data.removeprefix("s3://"), folder, report)
        if collected.complaint:
            _ERR.print(collected.complaint, style="yellow", markup=False, highlight=False, soft_wrap=True)
        yield folder, collected.origin


def _from_line(
    asked: _LineOptions, seed: int, store: ObjectStore, folder: Path, report: Callable[[float, str], None]
) -> Collected:
    from contextlib import ExitStack, closing

    from services.adapters.kafka import KafkaTopicReader
    from services.core.timespan import parse_window
    from services.core.topics import FRAMES, VERDICTS
    from services.trainer.sources import LineQuery, collect_from_line

    if not asked.since:
        raise typer.BadParameter("--data line needs --since: ISO 8601, or how long ago (90m, 2h, 3d)")
    now_ms = time.time_ns() // 1_000_000
    window = parse_window(asked.since, asked.until, now_ms)
    query = LineQuery(window, asked.cameras, asked.product, asked.most, seed)
    connection = _kafka()
    with ExitStack() as open_ones:
        frames = open_ones.enter_context(closing(KafkaTopicReader(connection, [FRAMES])))
        verdicts = None
        if asked.passed_only:
            verdicts = open_ones.enter_context(closing(KafkaTopicReader(connection, [VERDICTS])))
        return collect_from_line(query, frames, store, folder, report, verdicts=verdicts, now_ms=now_ms)


@contextmanager
def _bar() -> Iterator[Callable[[float, str], None]]:
    """A bar on the terminal, and what moves it."""
    from rich.progress import Progress

    with Progress(console=_ERR, transient=True) as bar:
        task = bar.add_task("starting", total=1.0)
        yield lambda share, what: bar.update(task, completed=share, description=what)


def _option(text: str) -> tuple[str, bool | int | float | str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise typer.BadParameter(f"an option must be NAME=VALUE, got {text!r}")
    try:
        parsed = json.loads(value)
    except ValueError:
        return name, value
    return name, parsed if isinstance(parsed, bool | int | float) else value


# ---- topics


@topics_app.command("create")
def topics_create(
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of the topics that scale.")] = 4,
    retention_hours: Annotated[float, typer.Option(min=0.1, help="How long events are kept.")] = 24.0,
    max_message_bytes: Annotated[int, typer.Option(min=1_000_000, help="Largest record.")] = 30_000_000,
    replication_factor: Annotated[int, typer.Option(help="Copies of each record; -1 = the broker's default.")] = -1,
) -> None:
    """Create the topics that do not exist; those that do stay as they are."""
    from services.adapters.kafka_topics import ensure_topics, standard_topics

    wanted = standard_topics(
        partitions=partitions,
        retention_hours=retention_hours,
        max_message_bytes=max_message_bytes,
        replication_factor=replication_factor,
    )
    created = ensure_topics(_kafka(), wanted)
    for spec in wanted:
        _OUT.print(f"{'created' if spec.name in created else 'exists '}  {spec.name}", highlight=False)


@topics_app.command("list")
def topics_list(as_json: Json = False) -> None:
    """Show which topics exist, and how many partitions they have."""
    from services.adapters.kafka_topics import describe_topics

    found = describe_topics(_kafka())
    if as_json:
        _OUT.print_json(json.dumps(found))
        return
    table = Table("topic", "partitions", box=None)
    for name, partitions in sorted(found.items()):
        table.add_row(name, str(partitions))
    _OUT.print(table)


# ---- models


@models_app.command("list")
def models_list(as_json: Json = False) -> None:
    """Show every alias with its versions and their roles."""
    with _registry() as registry, _model_store() as store:
        rows = [_describe(state) for _, state in sorted(registry.states.items())]
        for row in rows:
            row["stored_versions"] = sorted(store.versions(row["alias"]))
    if as_json:
        _OUT.print_json(json.dumps(rows))
        return
    table = Table("alias", "live", "previous", "shadow", "candidates", "stored", "last change", box=None)
    for row in rows:
        numbers = [str(row[name] or "-") for name in ("live_version", "previous_version", "shadow_version")]
        lists = [", ".join(map(str, row[name])) or "-" for name in ("candidate_versions", "stored_versions")]
        table.add_row(row["alias"], *numbers, *lists, f"{row['action']} by {row['actor']}, {row['at']}")
    _OUT.print(table if rows else "no aliases yet: sightline models add PATH")


@models_app.command("show")
def models_show(
    version: Annotated[int, typer.Argument(min=1, help="Number of the version.")],
    alias: Alias = "default",
    as_json: Json = False,
) -> None:
    """Show what one version is: how it was made, where it cuts, what it was measured at."""
    with _model_store() as store:
        manifest = store.manifest(alias, version)
    if as_json:
        _OUT.print_json(manifest.to_json().decode())
        return
    table = Table(box=None, show_header=False)
    point, calibration = manifest.operating_point, manifest.calibration
    table.add_row("model", f"{manifest.architecture}, {manifest.alias} version {manifest.version}")
    table.add_row("classes", ", ".join(manifest.classes))
    table.add_row("threshold", f"{point.threshold:.4f}, unsure from {point.review_low:.4f} to {point.review_high:.4f}")
    table.add_row("chosen for", f"{calibration.rule} at most {calibration.target:.3%}")
    table.add_row("made from", manifest.lineage.description or manifest.lineage.source)
    for name, metric in sorted(manifest.metrics.items()):
        table.add_row(name, f"{metric.value:.4f} ({metric.low:.4f} to {metric.high:.4f}, {metric.n} parts)")
    _OUT.print(table)


@models_app.command("add")
def models_add(
    path: Annotated[Path, typer.Argument(help="Folder of a model version.", exists=True, file_okay=False)],
    promote: Annotated[bool, typer.Option(help="Let it decide at once.")] = False,
    note: Note = "",
) -> None:
    """Store a model version and make it a candidate of its alias."""
    from services.core import alias as transitions

    with _model_store() as store, _registry() as registry:
        manifest = store.upload(path)
        who, at_ns = _actor(), time.time_ns()
        state = registry.change(
            manifest.alias,
            lambda now: transitions.add(now, manifest.version, actor=who, at_ns=at_ns, note=note),
        )
        if promote:
            state = registry.change(
                manifest.alias,
                lambda now: transitions.promote(now, manifest.version, actor=who, at_ns=time.time_ns(), note=note),
            )
    _say(state)


@models_app.command("promote")
def models_promote(
    version: Annotated[int, typer.Argument(min=1, help="Number of the version.")],
    alias: Alias = "default",
    note: Note = "",
) -> None:
    """Let a version decide; the one that decided becomes the previous one."""
    from services.core import alias as transitions

    with _registry() as registry:
        state = registry.change(
            alias, lambda now: transitions.promote(now, version, actor=_actor(), at_ns=time.time_ns(), note=note)
        )
    _say(state)


@models_app.command("rollback")
def models_rollback(alias: Alias = "default", note: Note = "") -> None:
    """Let the previous version decide again; a second time undoes it."""
    from services.core import alias as transitions

    with _registry() as registry:
        state = registry.change(
            alias, lambda now: transitions.roll_back(now, actor=_actor(), at_ns=time.time_ns(), note=note)
        )
    _say(state)


# ---- reviews


@reviews_app.command("list")
def reviews_list(
    reviewer: Annotated[str, typer.Option(help="Only what this person said.")] = "",
    line: Annotated[str, typer.Option(help="Only of this line.")] = "",
    since: Annotated[str, typer.Option(help="Not before: ISO 8601, or how long ago (90m, 2h, 3d).")] = "",
    most: Annotated[int, typer.Option(min=1, help="How many at most, the newest first.")] = 50,
    everything: Annotated[bool, typer.Option("--all", help="What was taken back or put aside, too.")] = False,
    as_json: Json = False,
) -> None:
    """Show reviews, as the feedback service has them."""
    from services.adapters.ports import ReviewFilter
    from services.core.timespan import parse_moment

    since_ns = parse_moment(since, time.time_ns() // 1_000_000) * 1_000_000 if since else 0
    where = ReviewFilter(reviewer=reviewer, line_id=line, since_ns=since_ns, standing_only=not everything)
    found: list[Review] = []
    with _feedback() as client:
        token = ""
        while len(found) < most:
            page = client.list_reviews(where, limit=min(200, most - len(found)), token=token)
            found += page.reviews
            token = page.next_token
            if not token:
                break
    rows = [_review_row(review) for review in found]
    if as_json:
        _OUT.print_json(json.dumps(rows))
        return
    table = Table(
        "taken", "who", "what", "verdict", "reason", "corrected", "class", "mask px", "note", "case", box=None
    )
    for row in rows:
        names = ("taken", "reviewer", "action", "verdict_right", "reason_right", "corrected_verdict", "defect_class")
        table.add_row(*(row[name] or "-" for name in names), str(row["mask_pixels"]), row["note"], row["case_id"])
    _OUT.print(table if rows else "nothing was said yet: open the page, and answer a case")


@index_app.command("rebuild")
def index_rebuild() -> None:
    """Make the index anew from the record in the object store; claims stay. The service may run meanwhile."""
    from services.adapters.caseindex import SqlCaseIndex, remove_file
    from services.adapters.caseindex_database import IndexDamagedError
    from services.adapters.caserecord import CaseRecord
    from services.feedback.rebuild import rebuild_index

    url = _settings().index.url.get_secret_value()
    try:
        opened = SqlCaseIndex(url)
    except IndexDamagedError:
        remove_file(url)
        opened = SqlCaseIndex(url)
    with contextlib.closing(opened) as index, _objects() as store, _bar() as tell:
        done = rebuild_index(index, CaseRecord(store), tell)
    _OUT.print(f"{done.cases} cases and {done.reviews} reviews are in the index", highlight=False)
    for key, why in done.damaged:
        _ERR.print(f"left out: {key}: {why}", style="yellow", markup=False, highlight=False)
    if done.damaged:
        raise typer.Exit(1)


def _review_row(review: Review) -> dict[str, Any]:
    at = datetime.datetime.fromtimestamp(review.reviewed_at_ns / 1e9, tz=datetime.UTC)
    return {
        "taken": at.isoformat(timespec="seconds"),
        "review_id": review.review_id,
        "case_id": review.case_id,
        "frame_id": review.frame_id,
        "reviewer": review.reviewer,
        "action": review.action.value,
        "verdict_right": review.verdict_right.value,
        "reason_right": review.reason_right.value,
        "corrected_verdict": review.corrected_verdict.value if review.corrected_verdict else "",
        "defect_class": review.defect_class,
        "mask_pixels": review.mask_pixels,
        "mask": review.mask_ref.key if review.mask_ref else "",
        "note": review.note,
        "alias": review.alias,
        "model_version": review.model_version,
        "shown_method": review.shown_method,
        "supersedes": review.supersedes,
        "disagrees_with": review.disagrees_with,
    }


@contextmanager
def _feedback() -> Iterator[FeedbackClient]:
    from services.adapters.feedbackclient import FeedbackClient

    address = _settings().feedback.address
    if not address:
        raise SettingsError("feedback.address must name the feedback service, got none: is a line running here?")
    client = FeedbackClient(address)
    try:
        yield client
    finally:
        client.close()


@app.command("settings", rich_help_panel="By hand")
def settings_of(
    service: Annotated[str, typer.Argument(help=f"One of {', '.join(SERVICES)}.")] = "",
    markdown: Annotated[bool, typer.Option(help="Print Markdown, as in docs/settings.md.")] = False,
) -> None:
    """Show every setting of a service, or of all: name, bounds, default, meaning."""
    from services.runtime.settings_table import markdown_table, setting_rows

    if service and service not in SERVICES:
        raise SettingsError(f"the service must be one of {', '.join(SERVICES)}, got {service!r}")
    for name in [service] if service else SERVICES:
        rows = setting_rows(_settings_class(name))
        if markdown:
            sys.stdout.write(f"## {name}\n\n{markdown_table(rows)}\n\n")
            continue
        table = Table("variable", "value", "default", "meaning", title=name, title_justify="left", box=None)
        for row in rows:
            table.add_row(row.variable, row.kind, row.default, row.description)
        _OUT.print(table)


def _settings_class(service: str) -> type[ServiceSettings]:
    module = importlib.import_module(f"services.{service}.settings")
    found: type[ServiceSettings] = getattr(module, f"{service.capitalize()}Settings")
    return found


@app.command("version", rich_help_panel="By hand")
def version() -> None:
    """Print the version."""
    _OUT.print(package_version("sightline"), highlight=False)


# ---- what the commands above share


def _settings() -> CommandSettings:
    """Broker and object store: from the environment, else of the line that runs on this machine."""
    from services.local.linefile import CommandSettings, use_running_line
    from services.runtime.settings import load_settings

    use_running_line()
    return load_settings(CommandSettings)


def _kafka() -> KafkaConnection:
    return _settings().kafka.connection()


@contextmanager
def _model_store() -> Iterator[ModelStore]:
    from services.adapters.modelstore import ModelStore
    from services.adapters.objectstore import S3ObjectStore

    yield ModelStore(S3ObjectStore(_settings().object_store.connection()))


@contextmanager
def _objects() -> Iterator[ObjectStore]:
    from services.adapters.objectstore import S3ObjectStore

    yield S3ObjectStore(_settings().object_store.connection())


@contextmanager
def _writer() -> Iterator[RecordWriter]:
    from services.adapters.kafka import KafkaRecordWriter

    writer = KafkaRecordWriter(_kafka())
    try:
        yield writer
    finally:
        writer.close(10)


@contextmanager
def _registry() -> Iterator[ModelRegistry]:
    from services.adapters.kafka import KafkaRecordWriter, KafkaTopicReader
    from services.adapters.modelregistry import ModelRegistry
    from services.core.topics import MODELS

    connection = _kafka()
    writer = KafkaRecordWriter(connection)
    registry = ModelRegistry(KafkaTopicReader(connection, [MODELS]), writer)
    try:
        registry.read_all()
        yield registry
    finally:
        registry.close()
        writer.close(10)


def _actor() -> str:
    return os.environ.get("SIGHTLINE_ACTOR") or getpass.getuser()


def _describe(state: AliasState) -> dict[str, Any]:
    at = datetime.datetime.fromtimestamp(state.at_ns / 1e9, tz=datetime.UTC)
    return {
        **{field.name: getattr(state, field.name) for field in dataclasses.fields(state)},
        "action": state.action.value,
        "at": at.isoformat(timespec="seconds"),
    }


def _say(state: AliasState) -> None:
    live = f"version {state.live_version} decides" if state.live_version else "no version decides yet"
    _OUT.print(f"{state.alias}: {live} (revision {state.revision})", highlight=False)


if __name__ == "__main__":
    main()
