"""``sightline run``: a line on this machine that is looked after until somebody stops it."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import sys
import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from services.core.errors import ConflictError, SightlineError, UnavailableError
from services.local.line import Line, LinePlan
from services.local.linefile import DEFAULT_DATA, remove_line_file, write_line_file
from services.local.model import CancelledError
from services.local.process import port_is_free
from services.local.retention import Sweeper
from services.local.servers import BUCKET
from services.runtime.lifecycle import Shutdown

_CAMERAS = Path(__file__).with_name("cameras.yaml")
_FIRST_VERDICT_TIMEOUT_S = 120.0
_WATCH_S = 0.5
_PORTS_TRIED = 50
_LOG_LIMIT_BYTES = 20_000_000


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What ``sightline run`` was told.

    Attributes:
        data: Folder for everything that the line keeps.
        cameras: Settings of ingest instead of the simulated cameras; ``None`` takes ``ingest.yaml`` of the data folder.
        outcome: Settings of the outcome service instead of those made for the cameras.
        port: Port of the page, or the first free one after it.
        keep_hours: How long images of frames are kept.
        fresh: Begin with an empty data folder.
    """

    data: Path
    cameras: Path | None
    outcome: Path | None
    port: int
    keep_hours: float
    fresh: bool


class Screen:
    """What a person sees of the start: one line for each part that is up, and a bar for what takes long."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._told_share = 0.0

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Show that the line is being started."""
        with self._progress:
            self._task = self._progress.add_task("starting", total=None)
            yield

    def up(self, name: str, seconds: float) -> None:
        """A part is up."""
        self.console.print(f"  [green]✓[/green] {name} [dim]{seconds:.1f} s[/dim]")
        self._describe("starting")

    def fitting(self, share: float, what: str) -> None:
        """The starter model is so far."""
        if self._task is not None:
            self._progress.update(self._task, description=f"starter model: {what}", total=1.0, completed=share)
        if not self.console.is_terminal and share - self._told_share >= 0.25:
            self._told_share = share
            self.console.print(f"  … starter model: {what} ({share:.0%})")

    def waiting(self, what: str) -> None:
        """Something is waited for."""
        self._describe(what)

    def _describe(self, what: str) -> None:
        if self._task is not None:
            self._progress.update(self._task, description=what, total=None)


def run_line(options: RunOptions) -> int:
    """Run a line until SIGTERM or Ctrl-C.

    Returns:
        Exit code: 0 when it was stopped and everything drained, 1 when it did not come up or had to be killed.
    """
    began_s = time.monotonic()
    logging.basicConfig(level=logging.WARNING, format="  %(message)s")
    shutdown = Shutdown()
    shutdown.install_signal_handlers()
    screen = Screen()
    if options.fresh:
        _remove_data(options.data)
    options.data.mkdir(parents=True, exist_ok=True)
    with _alone(options.data):
        plan = LinePlan(
            data=options.data.resolve(),
            ingest_config=options.cameras or _default_cameras(options.data),
            # The durable engine survives a restart, but each record costs it more than the one before (measured: broker
            # and store 12 ms of processor time a frame at the start, 32 ms after 8 000 frames); memory stays level.
            engine="memory",
            page_port=_page_port(options.port, screen),
            answers=True,
            outcome_config=options.outcome,
            # An hour's images are kept for as long after it ended; without its picture a frame is of no use.
            settings={"feedback": {"EMBEDDINGS__KEEP_HOURS": str(options.keep_hours + 1)}},
        )
        line = Line(plan, report=screen.up, model_report=screen.fitting, cancelled=lambda: shutdown.requested)
        try:
            screen.console.print(f"Sightline starts; data and logs: {options.data}")
            with screen.starting():
                line.start()
                line.start_ingest()
                screen.waiting("waiting for the first verdict")
                _wait_for_verdict(line, shutdown)
            _tell(screen.console, line, time.monotonic() - began_s, options)
            write_line_file(options.data, line.command_settings(), line.addresses())
            _look_after(line, shutdown, screen.console, options)
        except CancelledError:
            pass
        except SightlineError as error:
            screen.console.print(f"[red]the line did not come up:[/red] {error}", markup=True)
            line.stop()
            return 1
        finally:
            remove_line_file(options.data)
        return _stop(line, screen.console)


def _remove_data(data: Path) -> None:
    """Remove a data folder, and nothing that only looks like one."""
    if data.exists() and not (data / "store").is_dir() and any(data.iterdir()):
        raise ConflictError(f"--fresh removes only a line's own data folder, {data} is something else")
    with _alone(data) if data.exists() else _nothing():
        shutil.rmtree(data, ignore_errors=True)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def _alone(data: Path) -> Iterator[None]:
    """Let one line use a data folder at a time."""
    with (data / "lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConflictError(f"a data folder serves one line at a time, another one runs in {data}") from None
        yield


def _default_cameras(data: Path) -> Path:
    path = data / "ingest.yaml"
    if not path.exists():
        shutil.copy(_CAMERAS, path)
    return path


def _page_port(wanted: int, screen: Screen) -> int:
    for port in range(wanted, min(wanted + _PORTS_TRIED, 65_536)):
        if port_is_free(port):
            if port != wanted:
                screen.console.print(f"  port {wanted} is taken, the page is served on {port}")
            return port
    raise UnavailableError(f"one of the ports {wanted} to {wanted + _PORTS_TRIED - 1} must be free for the page")


def _wait_for_verdict(line: Line, shutdown: Shutdown) -> None:
    end_s = time.monotonic() + _FIRST_VERDICT_TIMEOUT_S
    while line.verdicts() == 0:
        if shutdown.wait(0.1):
            raise CancelledError("the start was cancelled while it waited for the first verdict")
        line.watch()
        if time.monotonic() > end_s:
            raise UnavailableError(
                f"a verdict must come within {_FIRST_VERDICT_TIMEOUT_S:.0f} s, none did; see the logs in {line.logs}"
            )


def _tell(console: Console, line: Line, taken_s: float, options: RunOptions) -> None:
    console.print(f"The line runs: first verdict {taken_s:.1f} s after the start.\n")
    console.print(f"  page      [bold]{line.page_url}[/bold]")
    console.print(f"  cameras   {options.cameras or options.data / 'ingest.yaml'}")
    console.print(f"  outcomes  {options.data / 'outcomes'}")
    console.print(f"  logs      {line.logs}")
    # Commands look into the default folder by themselves; elsewhere they are told where the line is.
    where = "" if options.data == DEFAULT_DATA else f"SIGHTLINE_CONFIG={options.data / 'line.yaml'} "
    console.print(f"  models    {where}{sys.argv[0]} models list")
    console.print("\nCtrl-C stops it.\n")
    if sys.stdout.isatty() and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        webbrowser.open(line.page_url)


def _look_after(line: Line, shutdown: Shutdown, console: Console, options: RunOptions) -> None:
    sweeper = None
    if line.servers.store is not None:
        store = line.servers.store
        sweeper = Sweeper(store.client(), BUCKET, keep_hours=options.keep_hours, reclaim=store.reclaim)
        sweeper.start()
    try:
        while not shutdown.wait(_WATCH_S):
            for event in line.watch():
                console.print(f"  [yellow]{time.strftime('%H:%M:%S')}[/yellow] {event}")
            _bound_logs(line.logs)
    finally:
        if sweeper is not None:
            sweeper.stop()


def _bound_logs(logs: Path) -> None:
    """Begin a log anew when it has grown too large, keeping the last one; its writer appends, and goes on."""
    for path in logs.glob("*.log"):
        if path.stat().st_size > _LOG_LIMIT_BYTES:
            shutil.copyfile(path, path.with_suffix(".log.1"))
            os.truncate(path, 0)


def _stop(line: Line, console: Console) -> int:
    console.print("\nstopping: what is under way still gets its verdict")

    def told(name: str, drained: bool) -> None:
        if drained:
            console.print(f"  [green]✓[/green] {name} drained")
        else:
            console.print(f"  [red]✗[/red] {name} did not drain; its log: {line.logs / name}.log")

    return 0 if line.stop(told) else 1
