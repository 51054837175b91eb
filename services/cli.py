"""The ``sightline`` command: one subcommand per service, and what a person does by hand.

Everything heavy is imported by the subcommand that needs it, so that ``--help`` answers at once and the images of
ingest and dashboard carry no model code.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import enum
import functools
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
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.__main__ import SERVICES
from services.core.access import Role
from services.core.errors import InvalidInputError, SettingsError, SightlineError
from services.experiments.commands import experiment_app
from services.local.token_commands import tokens_app

if TYPE_CHECKING:
    from services.adapters.accounts import Accounts
    from services.adapters.connection import KafkaConnection
    from services.adapters.exportorder import ExportOrder
    from services.adapters.feedbackclient import FeedbackClient
    from services.adapters.modelregistry import ModelRegistry
    from services.adapters.modelstore import ModelStore
    from services.adapters.ports import ObjectStore, RecordWriter
    from services.adapters.tablecopy import TableCopy
    from services.adapters.trainerclient import TrainerClient
    from services.backup.content import Amounts
    from services.core.manifest import ModelManifest
    from services.core.review import Review
    from services.core.sizing import Plant
    from services.core.sizing import Size as PlantSize
    from services.core.training_run import CandidateReport, Confusion, FlippedPart, TrainingRun
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
train_app = typer.Typer(help="Models that learn from what people said.", no_args_is_help=True)
users_app = typer.Typer(help="Who may sign in to the dashboard.", no_args_is_help=True)
app.add_typer(topics_app, name="topics", rich_help_panel="By hand")
app.add_typer(models_app, name="models", rich_help_panel="By hand")
app.add_typer(train_app, name="train", rich_help_panel="By hand")
app.add_typer(reviews_app, name="reviews", rich_help_panel="By hand")
app.add_typer(index_app, name="index", rich_help_panel="By hand")
app.add_typer(users_app, name="users", rich_help_panel="By hand")
app.add_typer(tokens_app, name="tokens", rich_help_panel="By hand")
app.add_typer(experiment_app, name="experiment", rich_help_panel="By hand")


T = TypeVar("T")

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
def outcome() -> None:
    """Join the views of each part and answer the line within its cycle."""
    _serve("outcome")


@app.command(rich_help_panel="Services")
def explainer() -> None:
    """Explain cases: where the model saw the reason of its verdict."""
    _serve("explainer")


@app.command(rich_help_panel="Services")
def feedback() -> None:
    """Keep the record of cases and of what people say of them."""
    _serve("feedback")


@app.command(rich_help_panel="Services")
def trainer() -> None:
    """Make model versions from what people said, and let them prove themselves."""
    _serve("trainer")


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
    outcome: Annotated[
        Path | None,
        typer.Option(help="Settings of the outcome service (YAML) instead of those made for the cameras.", exists=True),
    ] = None,
    port: Annotated[int, typer.Option(help="Port of the page; the next free one if it is taken.")] = 8080,
    keep_hours: Annotated[float, typer.Option(min=0.1, help="How long images of frames are kept.")] = 2.0,
    fresh: Annotated[bool, typer.Option(help="Begin with an empty data folder.")] = False,
) -> None:
    """Start a whole line on this machine, with its page, until Ctrl-C."""
    from services.local.runner import RunOptions, run_line

    raise typer.Exit(run_line(RunOptions(data, cameras, outcome, port, keep_hours, fresh)))


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


@app.command("scrape-config", rich_help_panel="On this machine")
def scrape_config_of_line(
    data: Annotated[Path, typer.Option(help="Data folder of the line that runs.")] = Path(".sightline"),
    rules: Annotated[
        list[Path] | None, typer.Option(help="Rule file to load; give it once for each.", exists=True, dir_okay=False)
    ] = None,
    interval_s: Annotated[int, typer.Option(min=1, max=300, help="Seconds between two scrapes.")] = 5,
) -> None:
    """Print a prometheus.yml for the line that runs here, to watch it with a Prometheus of your own."""
    import yaml

    from services.local.linefile import read_addresses
    from services.local.scraping import scrape_config

    config = scrape_config(read_addresses(data), rules=rules or (), interval_s=interval_s)
    typer.echo(yaml.safe_dump(config, sort_keys=False), nl=False)


@app.command("plc-sim", rich_help_panel="On this machine")
def plc_sim(
    protocol: Annotated[Literal["modbus", "opcua"], typer.Option(help="What it speaks.")] = "modbus",
    address: Annotated[
        str, typer.Option(help="host:port of the inspection; that of the line that runs here if not said.")
    ] = "",
    line: Annotated[str, typer.Option(help="The line's id; OPC UA finds its signals by it.")] = "line-1",
    rate: Annotated[float, typer.Option(min=0, help="Parts a second; 0: as fast as the handshake goes.")] = 1.0,
    parts: Annotated[int, typer.Option(min=0, help="So many parts; 0: until Ctrl-C.")] = 0,
    prefix: Annotated[str, typer.Option(help="Parts' names begin so; one of its own for each run if not said.")] = "",
    recipe: Annotated[str, typer.Option(help="What is made; what the line makes if not said.")] = "",
    lot: Annotated[str, typer.Option(help="The lot.")] = "",
    reference: Annotated[
        str, typer.Option(metavar="GOOD,BAD", help="Show so many known good and known bad parts first.")
    ] = "0,0",
    cycle_ms: Annotated[int, typer.Option(min=1, help="Answers within this long are in time.")] = 1_000,
    skip_ack: Annotated[int, typer.Option(min=0, metavar="EVERY", help="Be slow to acknowledge every so many.")] = 0,
    double_trigger: Annotated[
        int, typer.Option(min=0, metavar="EVERY", help="Trigger again during every so many.")
    ] = 0,
    unknown_recipe: Annotated[
        int, typer.Option(min=0, metavar="EVERY", help="Ask for a recipe that nobody knows with every so many.")
    ] = 0,
    stop_heartbeat: Annotated[
        str, typer.Option(metavar="EVERY:SECONDS", help="Stand still for so long with every so many.")
    ] = "0:0",
    give_up_s: Annotated[float, typer.Option(min=0, help="End when nobody is at the address for this long.")] = 60.0,
    out: Annotated[Path | None, typer.Option("--json", help="Write what came of every part to this file.")] = None,
) -> None:
    """Play the PLC of a line: trigger parts, read their results, acknowledge, and account for every part.

    Exits with 0 only when every part was answered, or refused with an error.
    """
    from services.core.plc_run import PlcFaults, PlcProgramSettings
    from services.local.linefile import DEFAULT_DATA, read_setting
    from services.local.plc_sim import DEFAULT_ADDRESS, PlcSimOptions, run_plc_sim

    good, bad = _two_numbers("--reference", "GOOD,BAD", reference, ",")
    still_every, still_s = _two_numbers("--stop-heartbeat", "EVERY:SECONDS", stop_heartbeat, ":")
    where = address or read_setting(DEFAULT_DATA, "plc", protocol) or DEFAULT_ADDRESS[protocol]
    try:
        faults = PlcFaults(skip_ack, double_trigger, unknown_recipe, int(still_every), int(still_s * 1_000))
        program = PlcProgramSettings(
            # A name that was there a while ago has its answer already.
            prefix or f"sim-{int(time.time()):x}",
            parts,
            1_000 / rate if rate else 0.0,
            recipe,
            lot,
            int(good),
            int(bad),
            faults,
        )
        options = PlcSimOptions(protocol, where, line, program, cycle_ms, give_up_s, out)
    except InvalidInputError as error:
        raise typer.BadParameter(str(error)) from None
    raise typer.Exit(run_plc_sim(options))


def _two_numbers(option: str, form: str, text: str, between: str) -> tuple[float, float]:
    first, found, second = text.partition(between)
    try:
        one, other = float(first), float(second)
    except ValueError:
        found = ""
    if not found or one < 0 or other < 0:
        raise typer.BadParameter(f"{option} must be {form}, got {text!r}")
    return one, other


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
    data: Annotated[
        str,
        typer.Option(
            help="Labelled folder, or plain one of good parts; s3://PREFIX of a labelled one; or line (with --since)."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the new model version; must not exist.")],
    detector: Annotated[
        list[str] | None,
        typer.Option(
            help="Which: patch-knn, utrad, lof, lof:embedding-pca64, ... (docs/detectors.md); several are a panel."
        ),
    ] = None,
    network: Annotated[
        str,
        typer.Option(
            help="In place of a detector: a network with known defects among its data, which people's answers can "
            "teach. efficientnet-lite0, resnet18, ..."
        ),
    ] = "",
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
    escapes: Annotated[float, typer.Option(help="Largest share of defective parts to pass (--network).")] = 0.10,
    confidence: Annotated[
        float, typer.Option(help="With which both rates are kept; 0: on average, which takes fewer parts (--network).")
    ] = 0.95,
) -> None:
    """Fit a detector on good parts and write it as a model version, for `sightline models add`.

    With --unlabelled the version is a network that was fitted to the detector's verdicts on that folder. With --network
    it is a network whose last layer is fitted to a labelled folder, good parts and defects; what people answer can
    teach it further.
    """
    from services.trainer.detector_version import fit_version

    if bool(network) == bool(detector):
        raise typer.BadParameter(f"one of --detector and --network must be named, got {detector or network or 'none'}")
    if network:
        if unlabelled is not None or data == "line":
            raise typer.BadParameter("--network takes a labelled folder, got --unlabelled or --data line")
        _fit_network(data, out, network, size, escapes, false_rejects, confidence, seed, version, alias, product)
        return
    order = _fit_order(detector or [], features, backbone, option, size, false_rejects, seed, version, alias)
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
    _tell_fit(out, manifest)


def _fit_network(
    data: str,
    out: Path,
    network: str,
    size: int,
    escapes: float,
    false_rejects: float,
    confidence: float,
    seed: int,
    version: int,
    alias: str,
    product: str,
) -> None:
    from services.core.calibration import Promise
    from services.core.models.factory import ARCHITECTURES
    from services.core.preprocessing import Preprocessing
    from services.trainer.classifier_version import ClassifierOrder, fit_classifier_version

    if network not in ARCHITECTURES:
        raise typer.BadParameter(f"--network must be one of {', '.join(ARCHITECTURES)}, got {network!r}")
    try:
        promise = Promise("escape_rate", escapes, false_rejects, confidence)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    with _bar() as report, _images_of(data, _LineOptions(product=""), seed, report) as (folder, origin):
        order = ClassifierOrder(
            network,
            alias,
            version,
            Preprocessing(height_px=size, width_px=size),
            promise,
            product=product,
            seed=seed,
            origin=origin,
            threads=os.cpu_count() or 1,
        )
        manifest = fit_classifier_version(folder, order, out, report)
    _tell_fit(out, manifest)


def _tell_fit(out: Path, manifest: ModelManifest) -> None:
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


@topics_app.command("apply")
def topics_apply(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what differs and change nothing.")] = False,
) -> None:
    """Bring every topic to what the settings say (SIGHTLINE_TOPICS__…); partitions and records are never taken away."""
    from services.adapters.kafka_topics import apply_topics, standard_topics

    settings = _settings()
    wanted = standard_topics(**settings.topics.model_dump(exclude={"wait_s"}))
    kafka = settings.kafka.connection()
    changes = _once_available("Kafka", lambda: apply_topics(kafka, wanted, dry_run=dry_run), settings.topics.wait_s)
    for change in changes:
        done = "would " if dry_run and not change.by_hand else ""
        arrow = f"{change.before} → {change.after}" if change.before else change.after
        _OUT.print(f"{done}{change.work.value}  {change.topic}  {arrow}", highlight=False, soft_wrap=True)
    left = sum(change.by_hand for change in changes)
    _OUT.print(f"{len(wanted)} topics, {len(changes) - left} changes{f', {left} left to you' if left else ''}")


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


@app.command(rich_help_panel="By hand")
def migrate(
    wait_s: Annotated[float, typer.Option(min=0, max=3600, help="Longest wait for the databases.")] = 300.0,
) -> None:
    """Bring the databases of case index and accounts to the schema of this release; several at once take turns."""
    from services.adapters.accounts import Accounts
    from services.adapters.caseindex_database import Database

    settings = _settings()
    index, people = settings.index.url.get_secret_value(), settings.accounts.url.get_secret_value()
    opened: list[tuple[str, Callable[[], Database | Accounts]]] = [
        ("case index", lambda: Database(index)),
        ("accounts", lambda: Accounts(people)),
    ]
    for what, open_it in opened:
        with contextlib.closing(_once_available(what, open_it, wait_s)) as database:
            before, now = database.revisions
            moved = f"brought from {before or 'nothing'} to {now}" if before != now else f"is at {now} already"
            _OUT.print(f"{what}: {database} {moved}", highlight=False, soft_wrap=True)


def _once_available(what: str, call: Callable[[], T], wait_s: float) -> T:
    """Call as soon as what is needed answers, and tell what is waited for."""
    from services.runtime.lifecycle import Shutdown
    from services.runtime.retry import until_available

    def told() -> T:
        try:
            return call()
        except SightlineError as error:
            if error.retriable and wait_s:
                _ERR.print(
                    f"waiting for {what}: {error}", style="yellow", markup=False, highlight=False, soft_wrap=True
                )
            raise

    return until_available(what, told, shutdown=Shutdown(), deadline_s=wait_s)


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
    pictures: Annotated[
        Path | None,
        typer.Option(
            help="Labelled folder that it was fitted on: keeps its pictures in the object store, for a trainer that "
            "fine-tunes or shows defects on other parts.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    note: Note = "",
) -> None:
    """Store a model version and make it a candidate of its alias."""
    from services.core import alias as transitions

    if pictures is not None:
        from services.adapters.caserecord import CaseRecord
        from services.trainer.classifier_version import keep_pictures

        with _bar() as report, _objects() as objects:
            kept, missing = keep_pictures(
                path, pictures, CaseRecord(objects), lambda share: report(share, "keeping pictures")
            )
        _OUT.print(f"pictures kept: {kept}, not in {pictures}: {missing}", highlight=False, soft_wrap=True)
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


@models_app.command("export")
def models_export(
    version: Annotated[int, typer.Argument(min=1, help="Number of the version.")],
    out: Annotated[Path, typer.Option(help="The ONNX file to write.")],
    alias: Alias = "default",
    precision: Annotated[str, typer.Option(help="float32 or float16.")] = "float32",
) -> None:
    """Write a version as an ONNX file that gives the same verdicts, with its manifest inside."""
    try:
        from services.serving.onnx_export import export_onnx
    except ModuleNotFoundError as error:
        raise InvalidInputError(f"exporting needs the package {error.name}: install sightline[onnx,model]") from error
    with tempfile.TemporaryDirectory(prefix="sightline-export-") as folder, _model_store() as store:
        installed = store.install(alias, version, Path(folder))
        with _bar() as report:
            check = export_onnx(installed, out, precision, progress=report)
    _OUT.print(
        f"{out}: {check.size_bytes / 1e6:.1f} MB, {check.equal:.2%} of {check.frames} verdicts as torch gives them, "
        f"scores at most {check.score_difference:.1e} apart",
        highlight=False,
        soft_wrap=True,
    )


@models_app.command("compare")
def models_compare(
    alias: Annotated[str, typer.Argument(help="Name that the versions go by.")],
    version: Annotated[int, typer.Argument(min=1, help="One version; its frozen hold-out is asked.")],
    other: Annotated[int, typer.Argument(min=1, help="The other.")],
    as_json: Json = False,
) -> None:
    """Compare two versions on the frozen hold-out of the first: gates, confusion, parts that come out otherwise."""
    with _trainer() as client, _ERR.status("both versions answer the hold-out"):
        report = client.compare_versions(alias, version, other)
    if as_json:
        from google.protobuf import json_format

        from services.adapters.codec_training import report_to_message

        _OUT.print_json(json_format.MessageToJson(report_to_message(report), preserving_proto_field_name=True))
        return
    _show_report(report, f"version {version}", f"version {other}")


def _show_report(report: CandidateReport, live: str, candidate: str) -> None:
    gates = Table("gate", "", live, candidate, "bound", "interval", "parts", box=None)
    for gate in report.promotion.gates:
        figures = [f"{one:.4g}" for one in (gate.live, gate.candidate, gate.bound)]
        interval = "-" if gate.low != gate.low else f"{gate.low:.4g} to {gate.high:.4g}"
        gates.add_row(gate.name.value, gate.state.value, *figures, interval, str(gate.n))
    _OUT.print(gates)
    kinds = [f"{truth} {verdict}" for truth in ("good", "defective") for verdict in ("pass", "review", "fail")]
    confusion = Table(f"{report.holdout_parts} parts of the hold-out", *kinds, box=None)
    for name, counts in ((live, report.live), (candidate, report.candidate)):
        if counts is not None:
            confusion.add_row(name, *_confusion_cells(counts))
    _OUT.print(confusion)
    _show_flips(report.flips, f"{len(report.flips)} parts come out otherwise")


def _confusion_cells(counts: Confusion) -> list[str]:
    return [str(getattr(counts, field.name)) for field in dataclasses.fields(counts)]


def _show_flips(flips: tuple[FlippedPart, ...], title: str, most: int = 20) -> None:
    _OUT.print(title + (f", the first {most}:" if len(flips) > most else ":" if flips else ""), highlight=False)
    table = Table("part", "product", "truth", "before", "after", "score before", "after", box=None)
    for one in flips[:most]:
        scores = [f"{one.before_score:.4f}", f"{one.after_score:.4f}"]
        table.add_row(one.part_id, one.product, one.label or "-", one.before.value, one.after.value, *scores)
    if flips:
        _OUT.print(table)


# ---- training

RunId = Annotated[str, typer.Argument(help="Id of the run.")]


@train_app.command("start")
def train_start(
    alias: Alias = "default",
    note: Note = "",
    recipe: Annotated[str, typer.Option(help="head or finetune; empty takes the trainer's setting.")] = "",
    loss: Annotated[str, typer.Option(help="ce or ceod; empty takes the trainer's setting.")] = "",
    watch: Annotated[bool, typer.Option(help="Follow it to its end.")] = False,
) -> None:
    """Make a version from what people said, now."""
    with _trainer() as client:
        run = client.start_run(alias, _actor(), note=note, recipe=recipe, loss=loss)
        _OUT.print(run.run_id, highlight=False)
        if watch:
            _follow(client, run.run_id)


@train_app.command("list")
def train_list(
    alias: Annotated[str, typer.Option(help="Of which alias; empty shows all.")] = "",
    author: Annotated[str, typer.Option(help="Only runs that carry answers of this person.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=100, help="Most runs.")] = 20,
    as_json: Json = False,
) -> None:
    """List runs, the newest first, and how many answers wait for the next one."""
    with _trainer() as client:
        page = client.list_runs(alias=alias, author=author, limit=limit)
    if as_json:
        _OUT.print_json(json.dumps([_run_row(run) for run in page.runs]))
        return
    table = Table("run", "alias", "asked for", "by", "stage", "outcome", "version", "answers", "", box=None)
    for run in page.runs:
        row = _run_row(run)
        names = ("run_id", "alias", "requested_at", "actor", "stage", "outcome", "version", "answers", "detail")
        table.add_row(*(Text(str(row[name])) for name in names))
    _OUT.print(table if page.runs else "no runs yet: sightline train start")
    for name, count in sorted(page.new_reviews.items()):
        wanted = f" of {page.reviews_wanted} for the next run" if page.reviews_wanted else ""
        _OUT.print(f"{name}: {count} new answers{wanted}", highlight=False)


@train_app.command("show")
def train_show(run_id: RunId, as_json: Json = False) -> None:
    """Show one run whole: what it learnt from, what its candidate proved, how it did on the line."""
    with _trainer() as client:
        run = client.get_run(run_id)
    if as_json:
        from google.protobuf import json_format

        from services.adapters.codec_training import run_to_message

        _OUT.print_json(json_format.MessageToJson(run_to_message(run), preserving_proto_field_name=True))
        return
    _show_run(run)


@train_app.command("watch")
def train_watch(run_id: RunId) -> None:
    """Follow a run to its end."""
    with _trainer() as client:
        _follow(client, run_id)


@train_app.command("cancel")
def train_cancel(run_id: RunId) -> None:
    """End a run before its version is live; what is live stays."""
    with _trainer() as client:
        run = client.cancel_run(run_id, _actor())
    _OUT.print("it had ended already" if run.has_ended else "it ends", highlight=False)


@train_app.command("resume")
def train_resume(run_id: RunId, watch: Annotated[bool, typer.Option(help="Follow it to its end.")] = False) -> None:
    """Go on with a run that failed, or was cancelled while it trained, with its own data."""
    with _trainer() as client:
        run = client.resume_run(run_id, _actor())
        _OUT.print(f"{run.run_id} goes on: {run.stage.value}", highlight=False)
        if watch:
            _follow(client, run_id)


def _follow(client: TrainerClient, run_id: str) -> None:
    said = ""
    for run in client.watch_run(run_id):
        outcome = f": {run.outcome.value}" if run.outcome else ""
        now = f"{run.stage.value}{outcome} {run.share:.0%} {run.doing or run.detail}".rstrip()
        if now != said:
            said = now
            _OUT.print(now, highlight=False, markup=False, soft_wrap=True)


def _run_row(run: TrainingRun) -> dict[str, Any]:
    at = datetime.datetime.fromtimestamp(run.requested_at_ns / 1e9, tz=datetime.UTC)
    return {
        "run_id": run.run_id,
        "alias": run.alias,
        "requested_at": at.isoformat(timespec="seconds"),
        "actor": run.actor,
        "trigger": run.trigger.value,
        "stage": run.stage.value,
        "outcome": run.outcome.value if run.outcome else "",
        "reason": run.reason,
        "detail": run.detail or run.doing,
        "version": run.candidate_version or "",
        "answers": run.snapshot.reviews if run.snapshot else "",
    }


def _show_run(run: TrainingRun) -> None:
    table = Table(box=None, show_header=False)
    for name, value in _run_row(run).items():
        if value != "":
            table.add_row(name.replace("_", " "), Text(str(value)))
    table.add_row("learns", f"{run.recipe.value}, {run.loss.value}, seed {run.seed}")
    table.add_row("authors", Text(", ".join(run.authors) or "-"))
    if run.snapshot is not None:
        left_out = ", ".join(f"{count} {reason}" for reason, count in run.snapshot.left_out) or "nothing"
        table.add_row(
            "data set", f"{run.snapshot.parts} pictures, {run.snapshot.good} of them good; left out {left_out}"
        )
    if run.epochs:
        last = run.epochs[-1]
        table.add_row("losses", f"after epoch {last.epoch}: {last.train_loss:.4f}, held out {last.validation_loss:.4f}")
    if run.shadow is not None:
        table.add_row(
            "shadow", f"{run.shadow.agreed} of {run.shadow.frames} live frames alike, {run.shadow.failed} failed"
        )
    if run.watch is not None:
        table.add_row("watch", f"{run.watch.flagged} of {run.watch.frames} frames flagged, before "
                      f"{run.watch.before_flagged} of {run.watch.before_frames}")  # fmt: skip
    _OUT.print(table)
    if run.report is not None:
        _show_report(run.report, f"version {run.report.live_version}", f"version {run.candidate_version or 'new'}")
        honoured = sum(part.is_honoured for part in run.report.answered)
        _OUT.print(f"{honoured} of {len(run.report.answered)} answered parts come out as people said", highlight=False)


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


@app.command("export", rich_help_panel="By hand")
def export(
    layout: Annotated[
        str, typer.Option(help="coco, labels (labels.csv), mvtec (MVTec AD's) or two-folders (ok/ and def/).")
    ],
    out: Annotated[Path, typer.Option(help="The ZIP archive to write; must not exist.", dir_okay=False)],
    line: Annotated[str, typer.Option(help="Only of this line.")] = "",
    camera: Annotated[str, typer.Option(help="Only of this camera.")] = "",
    product: Annotated[str, typer.Option(help="Only of this product.")] = "",
    defect_class: Annotated[str, typer.Option("--class", help="Only of this class of defect.")] = "",
    since: Annotated[str, typer.Option(help="Captured then or later: ISO 8601, or how long ago (90m, 2h, 3d).")] = "",
    until: Annotated[str, typer.Option(help="Captured before.")] = "",
    model_labels: Annotated[
        bool, typer.Option(help="Take the model's word for what nobody has answered; each label says whose it is.")
    ] = False,
    reviewers: Annotated[bool, typer.Option(help="Name those who answered.")] = False,
) -> None:
    """Write cases with pictures, masks and labels as a ZIP archive, as the feedback service has them."""
    from services.adapters.exportorder import ExportOrder
    from services.adapters.ports import CaseFilter
    from services.core.export_layout import Labels, Layout
    from services.core.timespan import parse_moment

    if layout not in {one.value for one in Layout}:
        raise typer.BadParameter(f"--layout must be one of {', '.join(one.value for one in Layout)}, got {layout!r}")
    if out.exists():
        raise typer.BadParameter(f"--out must not exist yet, got {out}")
    now_ms = time.time_ns() // 1_000_000
    since_ns, until_ns = (parse_moment(one, now_ms) * 1_000_000 if one else 0 for one in (since, until))
    where = CaseFilter(
        line_id=line,
        camera_id=camera,
        product=product,
        defect_class=defect_class,
        since_ns=since_ns,
        until_ns=until_ns,
    )
    labels = Labels.SETTLED_ELSE_MODEL if model_labels else Labels.SETTLED
    cases = _write_export(ExportOrder(Layout(layout), where, labels=labels, reviewers=reviewers), out)
    size = f"{out.stat().st_size / 1e6:.1f} MB"
    _OUT.print(
        f"{out}: {size}; of {cases} cases, manifest.json says what was left out", highlight=False, soft_wrap=True
    )


def _write_export(order: ExportOrder, out: Path) -> int:
    """Write an archive, whole or not at all; how many cases were looked at."""
    from services.adapters.exportclient import ExportClient

    address = _settings().feedback.address
    if not address:
        raise SettingsError("feedback.address must name the feedback service, got none: is a line running here?")
    unfinished = out.with_name(f"{out.name}.part")
    client, done = ExportClient(address), 0
    try:
        with _bar() as tell, unfinished.open("wb") as file:
            pieces = client.export(order)
            while (piece := pieces.next()) is not None:
                file.write(piece.data)
                done = piece.cases_done
                tell(done / max(1, piece.cases_expected, done), f"{done} of {piece.cases_expected} cases")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(out)
    finally:
        client.close()
        unfinished.unlink(missing_ok=True)
    return done


@index_app.command("rebuild")
def index_rebuild() -> None:
    """Make the index anew from the record in the object store; claims stay. The service may run meanwhile."""
    from services.adapters.caseindex import SqlCaseIndex, remove_file
    from services.adapters.caseindex_database import IndexDamagedError
    from services.adapters.caserecord import CaseRecord
    from services.adapters.embeddingindex import SqlEmbeddingIndex
    from services.feedback.rebuild import rebuild_index

    url = _settings().index.url.get_secret_value()
    try:
        opened = SqlCaseIndex(url)
    except IndexDamagedError:
        remove_file(url)
        opened = SqlCaseIndex(url)
    with contextlib.closing(opened) as index, _objects() as store, _bar() as tell:
        done = rebuild_index(index, CaseRecord(store), tell, embeddings=SqlEmbeddingIndex(index.database))
    _OUT.print(f"{done.cases} cases and {done.reviews} reviews are in the index", highlight=False)
    for key, why in done.damaged:
        _ERR.print(f"left out: {key}: {why}", style="yellow", markup=False, highlight=False)
    if done.damaged:
        raise typer.Exit(1)


# ---- how much of everything


@app.command("size", rich_help_panel="By hand")
def size_plant(
    lines: Annotated[int, typer.Option(help="Lines.")] = 1,
    cameras: Annotated[int, typer.Option(help="Cameras of each line.")] = 1,
    frames_per_s: Annotated[float, typer.Option(help="Of each camera.")] = 10.0,
    image_bytes: Annotated[int, typer.Option(help="Of one encoded image.")] = 200_000,
    image_pixels: Annotated[int, typer.Option(help="Of one image; 0: as JPEGs of so many bytes have.")] = 0,
    views_per_part: Annotated[int, typer.Option(help="Frames of one part; 0: one of each camera.")] = 0,
    cycle_time_ms: Annotated[int, typer.Option(help="Of one part.")] = 1_000,
    flagged_share: Annotated[float, typer.Option(help="Share of frames that are FAIL or REVIEW.")] = 0.01,
    audit_share: Annotated[float, typer.Option(help="Share of the others that become cases.")] = 0.02,
    embedding_share: Annotated[float, typer.Option(help="Share of frames whose embedding is kept.")] = 1.0,
    embeddings_keep_hours: Annotated[float, typer.Option(help="For how long.")] = 24.0,
    passes: Annotated[int, typer.Option(help="Forward passes of one case's explanations.")] = 405,
    answers_per_hour: Annotated[float, typer.Option(help="Of all people together.")] = 200.0,
    retention_hours: Annotated[float, typer.Option(help="Of the topics.")] = 24.0,
    record_days: Annotated[float, typer.Option(help="Of the topics that are a record.")] = 400.0,
    replication: Annotated[int, typer.Option(help="Copies of each record.")] = 3,
    inline_limit_bytes: Annotated[int, typer.Option(help="Larger messages carry a reference.")] = 900_000,
    network: Annotated[str, typer.Option(help="efficientnet-lite0 or resnet18.")] = "efficientnet-lite0",
    gpu_images_per_s: Annotated[
        float, typer.Option(help="Images/s of one GPU with your network, as you measured it; 0: processors only.")
    ] = 0.0,
    peak_factor: Annotated[float, typer.Option(help="The busiest minutes over the average.")] = 1.5,
    spare_replicas: Annotated[int, typer.Option(help="Of each service that may have several.")] = 0,
    broker_disk_tb: Annotated[float, typer.Option(help="Of one broker.")] = 4.0,
    broker_network_gbit: Annotated[float, typer.Option(help="Gbit/s of one broker.")] = 10.0,
    as_json: Json = False,
    as_values: Annotated[bool, typer.Option("--values", help="Print values for the Helm chart.")] = False,
) -> None:
    """Say what a plant needs: partitions, brokers, replicas, GPUs, storage; docs/sizing.md says from which figures."""
    from services.core.sizing import Plant, size

    plant = Plant(
        lines=lines,
        cameras_per_line=cameras,
        frames_per_s=frames_per_s,
        image_bytes=image_bytes,
        image_pixels=image_pixels,
        views_per_part=views_per_part,
        cycle_time_ms=cycle_time_ms,
        flagged_share=flagged_share,
        audit_share=audit_share,
        embedding_share=embedding_share,
        embeddings_keep_hours=embeddings_keep_hours,
        passes_per_case=passes,
        answers_per_hour=answers_per_hour,
        retention_hours=retention_hours,
        record_days=record_days,
        replication=replication,
        inline_limit_bytes=inline_limit_bytes,
        network=network,
        gpu_images_per_s=gpu_images_per_s,
        peak_factor=peak_factor,
        spare_replicas=spare_replicas,
        broker_disk_bytes=broker_disk_tb * 1e12,
        broker_network_bytes_per_s=broker_network_gbit * 1e9 / 8,
    )
    needed = size(plant)
    if as_json:
        sys.stdout.write(json.dumps({"plant": dataclasses.asdict(plant), "size": dataclasses.asdict(needed)}) + "\n")
    elif as_values:
        sys.stdout.write(_size_values(plant, needed))
    else:
        _show_size(plant, needed)
    for warning in needed.warnings:
        _ERR.print(f"note: {warning}", style="yellow", markup=False, highlight=False, soft_wrap=True)


def _size_values(plant: Plant, needed: PlantSize) -> str:
    import yaml

    values: dict[str, Any] = {}
    head = ""
    for one in needed.services:
        if one.name in {"trainer", "serving"}:
            # What a training takes was not measured here; the agent is a sidecar.
            continue
        cpu = f"{round(one.cores * 1_000)}m"
        if one.name == "triton":
            # Its memory is that of its versions and of /dev/shm: left to the chart.
            values[one.name] = {"replicas": one.replicas, "resources": {"requests": {"cpu": cpu}}}
            continue
        requests, limits = {"cpu": cpu, "memory": f"{one.memory_mb}M"}, {"memory": f"{one.memory_limit_mb}M"}
        values[one.name] = {"resources": {"requests": requests, "limits": limits}}
        if one.name not in {"ingest", "outcome"}:
            values[one.name] = {"replicas": one.replicas} | values[one.name]
        elif one.replicas > 1:
            # Each process has cameras or lines of its own.
            head += f"# {one.name}: {one.replicas} processes: divide cameras or lines among {one.name}.instances\n"
    values["topics"] = {
        "partitions": needed.partitions,
        "retentionHours": plant.retention_hours,
        "recordDays": plant.record_days,
        "replicationFactor": plant.replication,
        # One copy may be away and records still count as written.
        "minInsyncReplicas": max(1, plant.replication - 1),
    }
    return head + str(yaml.safe_dump(values, sort_keys=False))


def _show_size(plant: Plant, needed: PlantSize) -> None:
    _OUT.print(
        f"{plant.rate:,.0f} frames/s, {plant.rate * plant.image_bytes / 1e6:,.1f} MB/s, "
        f"{plant.parts_per_s:,.1f} parts/s, {plant.cases_per_s:,.2f} cases/s; "
        f"planned with {plant.peak_factor:g} times as much",
        highlight=False,
        soft_wrap=True,
    )
    table = Table("service", "replicas", "cores each", "memory MB", "because", box=None)
    for one in needed.services:
        table.add_row(one.name, str(one.replicas), f"{one.cores:.1f}", str(one.memory_mb), one.why)
    _OUT.print(table)
    table = Table("topic", "needs partitions", "records/s", "MB/s", "kept h", "disk GB, copies too", box=None)
    for topic in needed.topics:
        table.add_row(
            topic.name,
            str(topic.partitions),
            f"{topic.records_per_s:,.1f}",
            f"{topic.bytes_per_s / 1e6:,.3f}",
            f"{topic.retention_hours:g}",
            f"{topic.disk_bytes / 1e9:,.1f}",
        )
    _OUT.print(table)
    for what, value in {
        "partitions of each topic that scales": f"{needed.partitions}",
        "brokers": f"{needed.brokers}, each {needed.disk_bytes_per_broker / 1e9:,.0f} GB, "
        f"{needed.network_in_bytes_per_s / 1e6:,.1f} MB/s in and {needed.network_out_bytes_per_s / 1e6:,.1f} MB/s out",
        "GPUs": f"{needed.gpus:.1f} GPUs' work" if needed.gpus else "none counted with",
        "object store": f"the record grows by {needed.store_bytes_per_day / 1e9:,.2f} GB a day; images that expire "
        f"{needed.store_expiring_bytes / 1e9:,.1f} GB; {needed.store_puts_per_s:,.1f} puts/s, "
        f"{needed.store_gets_per_s:,.1f} gets/s",
        "case index": f"grows by {needed.index_bytes_per_year / 1e9:,.1f} GB a year, embeddings "
        f"{needed.embeddings_bytes / 1e9:,.2f} GB; {'PostgreSQL' if needed.needs_postgres else 'SQLite will do'}",
    }.items():
        _OUT.print(f"{what}: {value}", highlight=False, soft_wrap=True)


# ---- backup and restore


class _Parts(enum.StrEnum):
    ACCOUNTS = "accounts"
    COUNTS = "counts"


Without = Annotated[
    list[_Parts] | None,
    typer.Option(help="Leave this database out: accounts (who may sign in), counts (verdicts); may be repeated."),
]


@app.command(rich_help_panel="By hand")
def backup(
    to: Annotated[Path, typer.Option(file_okay=False, help="Folder of the backups; what lies there is kept.")],
    with_pictures: Annotated[bool, typer.Option(help="Pictures too that expire.")] = False,
    without: Without = None,
    as_json: Json = False,
) -> None:
    """Save the record: cases, reviews, pictures, models, trainings, aliases, line events, accounts and counts.

    The line may run meanwhile. One that was cut off goes on when it is given again. What is not in it, and why, is in
    docs/backup-and-restore.md.
    """
    from services.adapters.backuparchive import Archive
    from services.adapters.kafka import KafkaTopicReader
    from services.backup.content import EXPIRING, RECORD, TOPICS
    from services.backup.save import save

    settings = _settings()
    with contextlib.ExitStack() as stack:
        databases = _saved_databases(stack, settings, without or [], must_exist=True)
        kafka = settings.kafka.connection()
        readers = {topic: stack.enter_context(contextlib.closing(KafkaTopicReader(kafka, [topic]))) for topic in TOPICS}
        store = stack.enter_context(_objects())
        report = stack.enter_context(_counter("saving"))
        amounts = save(
            Archive(to),
            store,
            (*RECORD, *(EXPIRING if with_pictures else ())),
            readers,
            databases,
            bucket=settings.object_store.bucket,
            release=package_version("sightline"),
            tell=report,
        )
    _tell_amounts("saved", amounts, as_json)


@app.command(rich_help_panel="By hand")
def restore(
    source: Annotated[Path, typer.Option("--from", exists=True, file_okay=False, help="Folder of the backups.")],
    name: Annotated[str, typer.Option("--backup", help="Which one; the newest whole one if not said.")] = "",
    over: Annotated[bool, typer.Option(help="Replace what is there; else everything must be empty.")] = False,
    same_broker: Annotated[
        bool, typer.Option(help="The broker kept its topics: verdicts are counted on from where the backup stood.")
    ] = False,
    check_only: Annotated[
        bool, typer.Option("--check", help="Only read it all and hold it against its digests.")
    ] = False,
    without: Without = None,
    as_json: Json = False,
) -> None:
    """Bring a backup back into an empty store, broker and database; then give `sightline index rebuild`.

    Everything is checked before anything is written. Stop the services first.
    """
    from services.adapters.backuparchive import Archive
    from services.adapters.kafka import KafkaRecordWriter, KafkaTopicReader
    from services.adapters.kafka_topics import ensure_topics, standard_topics
    from services.adapters.statistics_schema import POSITIONS
    from services.backup.content import TOPICS
    from services.backup.restore import Target, check
    from services.backup.restore import restore as bring_back

    archive = Archive(source)
    chosen = name or archive.newest()
    if check_only:
        with _counter("checking") as report:
            _tell_amounts("whole", check(archive, chosen, tell=report), as_json)
        return
    settings = _settings()
    kafka = settings.kafka.connection()
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(_objects())
        store.ensure_bucket()
        # Made with the usual partitions where nobody has made them; `models` and its like have one in any case.
        ensure_topics(kafka, [spec for spec in standard_topics() if spec.name in TOPICS])
        writer = KafkaRecordWriter(kafka)
        stack.callback(writer.close, 10)
        readers = {topic: functools.partial(KafkaTopicReader, kafka, [topic]) for topic in TOPICS}
        databases = _saved_databases(stack, settings, without or [], must_exist=False)
        amounts = bring_back(
            archive,
            chosen,
            Target(store, settings.object_store.bucket, readers, writer, databases),
            over=over,
            leave_out=frozenset() if same_broker else frozenset({POSITIONS.name}),
            tell=stack.enter_context(_counter("restoring")),
        )
    _tell_amounts("restored", amounts, as_json)


def _saved_databases(
    stack: contextlib.ExitStack, settings: CommandSettings, without: list[_Parts], *, must_exist: bool
) -> dict[str, TableCopy]:
    from services.adapters.accounts_schema import ACCOUNTS, AUDIT, SESSIONS, USERS
    from services.adapters.caseindex_database import CASE_INDEX, Database, parse_url, sqlite_file
    from services.adapters.statistics_schema import COUNTS, INSPECTED, POSITIONS
    from services.adapters.tablecopy import TableCopy
    from services.backup import content

    wanted = {
        # Whoever is signed in signs in anew: a session of then must not come back to life.
        content.ACCOUNTS: (settings.accounts.url, ACCOUNTS, (USERS, AUDIT), (SESSIONS,)),
        content.COUNTS: (settings.index.url, CASE_INDEX, (INSPECTED, COUNTS, POSITIONS), ()),
    }
    found: dict[str, TableCopy] = {}
    for name, (url, tables, kept, cleared) in wanted.items():
        if name in without:
            continue
        file = sqlite_file(parse_url(url.get_secret_value(), tables.what))
        if must_exist and file is not None and not file.exists():
            # To open it would make an empty one, and save that.
            raise InvalidInputError(f"the {tables.what} must be there to save it, got no {file}: --without {name}?")
        database = Database(url.get_secret_value(), tables)
        stack.callback(database.close)
        found[name] = TableCopy(database, kept, cleared)
    return found


@contextmanager
def _counter(what: str) -> Iterator[Callable[[int, int], None]]:
    from rich.progress import Progress, TextColumn

    columns = (TextColumn("{task.description}"), TextColumn("{task.completed:,.0f} objects"))
    with Progress(*columns, console=_ERR, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda objects, size_bytes: bar.update(
            task, completed=objects, description=f"{what}: {size_bytes / 1e6:,.0f} MB,"
        )


def _tell_amounts(what: str, amounts: Amounts, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(dataclasses.asdict(amounts)) + "\n")
        return
    _OUT.print(
        f"backup {amounts.name} {what}: {amounts.objects} objects, {amounts.object_bytes / 1e6:,.1f} MB "
        f"({amounts.moved_objects} objects, {amounts.moved_bytes / 1e6:,.1f} MB were moved), "
        f"{amounts.records} records, {amounts.rows} rows",
        highlight=False,
        soft_wrap=True,
    )
    for key in amounts.gone:
        _ERR.print(f"gone while it was saved: {key}", style="yellow", markup=False, highlight=False)


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


# ---- users

UserName = Annotated[str, typer.Argument(help="As it stands beside the person's answers.")]
UserRole = Annotated[Role, typer.Option(help="What they may do: docs/signing-in.md.")]


@users_app.command("add")
def users_add(name: UserName, role: UserRole = Role.OPERATOR) -> None:
    """Add a person, with a password from the prompt or from standard input; the first admin is made this way."""
    from services.core.access import validate_name

    validate_name(name)
    with _accounts() as accounts:
        user = accounts.add(name, role, _new_password())
        _write_down(accounts, "add_user", f"{user.name} role={role.value}")
    _OUT.print(f"{user.name} may sign in as {role.value}", markup=False, highlight=False)


@users_app.command("list")
def users_list(as_json: Json = False) -> None:
    """Show who may sign in, and who may no longer."""
    with _accounts() as accounts:
        users = accounts.users()
    if as_json:
        rows = [{**dataclasses.asdict(user), "role": user.role.value} for user in users]
        _OUT.print_json(json.dumps(rows))
        return
    table = Table("name", "role", "signs in", "last", box=None)
    for user in users:
        at = datetime.datetime.fromtimestamp(user.signed_in_at_ns / 1e9, tz=datetime.UTC)
        where = "no longer" if user.disabled else "by password" if user.is_local else "elsewhere"
        last = at.isoformat(timespec="seconds") if user.signed_in_at_ns else "never"
        table.add_row(Text(user.name), user.role.value, where, last)
    _OUT.print(table if users else "nobody may sign in yet: sightline users add NAME --role admin")


@users_app.command("disable")
def users_disable(name: UserName) -> None:
    """Turn a person away; their sessions end at once."""
    _change_user(name, "disabled=true", disabled=True)


@users_app.command("enable")
def users_enable(name: UserName) -> None:
    """Let a person in again."""
    _change_user(name, "disabled=false", disabled=False)


@users_app.command("set-role")
def users_set_role(name: UserName, role: Annotated[Role, typer.Argument(help="The new one.")]) -> None:
    """Change what a person may do; their sessions end."""
    _change_user(name, f"role={role.value}", role=role)


@users_app.command("set-password")
def users_set_password(name: UserName) -> None:
    """Give a person a new password, from the prompt or from standard input; their sessions end."""
    _change_user(name, "new password", password=_new_password())


def _change_user(name: str, what: str, **change: Any) -> None:
    with _accounts() as accounts:
        user = accounts.change(name, **change)
        _write_down(accounts, "change_user", f"{user.name} {what}")
    state = "turned away" if user.disabled else user.role.value
    _OUT.print(f"{user.name}: {state}", markup=False, highlight=False)


def _new_password() -> str:
    """Ask for a password. Never from the arguments, which everybody on the machine can read."""
    from services.core.access import check_new_password

    if not sys.stdin.isatty():
        given = sys.stdin.readline().rstrip("\r\n")
        check_new_password(given)
        return given
    given = getpass.getpass("New password: ")
    check_new_password(given)
    if getpass.getpass("Once more: ") != given:
        raise InvalidInputError("both passwords must be the same, got two")
    return given


def _write_down(accounts: Accounts, action: str, target: str) -> None:
    from services.adapters.accounts import AuditEntry

    accounts.append(AuditEntry(time.time_ns(), _actor(), "", action, target, "command line", "done"))


@contextmanager
def _accounts() -> Iterator[Accounts]:
    from services.adapters.accounts import Accounts

    with contextlib.closing(Accounts(_settings().accounts.url.get_secret_value())) as accounts:
        yield accounts


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


@contextmanager
def _trainer() -> Iterator[TrainerClient]:
    from services.adapters.trainerclient import TrainerClient

    address = _settings().trainer.address
    if not address:
        raise SettingsError("trainer.address must name the trainer service, got none: is a line running here?")
    client = TrainerClient(address)
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
    from services.adapters.grpcpeer import show_identity
    from services.adapters.identity import Identity
    from services.local.linefile import CommandSettings, use_running_line
    from services.runtime.plaintext import check_transport
    from services.runtime.settings import load_settings

    use_running_line()
    settings = load_settings(CommandSettings)
    check_transport(settings)
    show_identity(Identity(settings.identity_files))
    return settings


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
