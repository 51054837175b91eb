"""``sightline smoke``: a line of its own, a known number of frames, and an account of every one of them."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from services.core.errors import InvalidInputError, SightlineError
from services.local.feeds import folder_feed, simulated_feed
from services.local.line import Line, LinePlan
from services.local.model import CancelledError
from services.local.process import tail
from services.local.tally import Outcome, Tally
from services.runtime.lifecycle import Shutdown

_DEFAULT_FRAMES = 300
_TELL_S = 2.0
#: All frames come at once here, so the cases pile up: most get the fast map, and the account does not take minutes.
_EXPLAINER = {"POLICY__FAST_ABOVE_CASES": "4", "BUDGET__CASE_S": "4"}


@dataclass(frozen=True, slots=True)
class SmokeOptions:
    """What ``sightline smoke`` was told.

    Attributes:
        frames: Frames to send; ``None`` sends 300 simulated ones, or every file of ``source``.
        source: Folder whose files are sent, each once; ``None`` draws parts.
        as_json: End with one JSON object on the last line.
        keep: Keep data and logs.
        timeout_s: Longest time in which nothing comes out.
    """

    frames: int | None
    source: Path | None
    as_json: bool
    keep: bool
    timeout_s: float


def run_smoke(options: SmokeOptions) -> int:
    """Run it; progress goes to standard error.

    Returns:
        Exit code: 0 when every frame came out once, 1 when not, 130 when it was interrupted.
    """
    screen = Console(stderr=True, highlight=False)
    shutdown = Shutdown()
    shutdown.install_signal_handlers()
    data = Path(tempfile.mkdtemp(prefix="sightline-smoke-"))
    kept = options.keep
    try:
        outcome, startup_s = _measure(options, data, screen, shutdown)
    except CancelledError:
        screen.print("stopped")
        return 130
    except SightlineError as error:
        screen.print(f"[red]the line did not work:[/red] {error}", soft_wrap=True)
        _tell_logs(screen, data)
        kept = True
        return 1
    finally:
        if kept:
            screen.print(f"data and logs: {data}", soft_wrap=True)
        else:
            shutil.rmtree(data, ignore_errors=True)
    _tell(outcome, startup_s, options, screen)
    return 0 if outcome.clean else 1


def _measure(options: SmokeOptions, data: Path, screen: Console, shutdown: Shutdown) -> tuple[Outcome, float]:
    began_s = time.monotonic()
    if options.source is None:
        frames_in = options.frames or _DEFAULT_FRAMES
        config = simulated_feed(data / "ingest.yaml", frames=frames_in)
    else:
        config, frames_in = folder_feed(data / "ingest.yaml", options.source, most=options.frames)
    if frames_in == 0:
        raise InvalidInputError(f"the folder must hold files, got {options.source}")
    line = Line(
        LinePlan(data=data, ingest_config=config, engine="memory", settings={"explainer": _EXPLAINER}),
        report=lambda name, seconds: screen.print(f"  ✓ {name} {seconds:.1f} s"),
        model_report=_Announcer(screen),
        cancelled=lambda: shutdown.requested,
    )
    try:
        line.start()
        startup_s = time.monotonic() - began_s
        tally = Tally(line.servers.kafka)
        line.start_ingest()
        progress = _Progress(screen, frames_in, shutdown)
        complete = tally.wait_for(frames_in, options.timeout_s, during=progress)
        if shutdown.requested:
            raise CancelledError("interrupted")
        # Every case is written by then; the explainer, which steps back for verdicts, may have some left to do.
        line.stop_services(names=("ingest", "detector"))
        explaining = _Progress(screen, 0, shutdown, "cases explained")
        complete &= tally.wait_for_explained(options.timeout_s, during=explaining)
        if shutdown.requested:
            raise CancelledError("interrupted")
        if not complete:
            _tell_logs(screen, data)
        # What comes after the drain is a duplicate; the broker must still be there to tell.
        line.stop_services()
        tally.read_to_end()
        outcome = tally.outcome(frames_in)
        tally.close()
    finally:
        line.stop()
    return outcome, startup_s


class _Progress:
    """Tells now and then how far it is."""

    def __init__(self, screen: Console, whole: int, shutdown: Shutdown, what: str = "frames") -> None:
        self._screen = screen
        self._of = f" of {whole}" if whole else ""
        self._what = what
        self._shutdown = shutdown
        self._told_s = time.monotonic()

    def __call__(self, settled: int) -> bool:
        """Take a count; False when somebody wants to stop."""
        if time.monotonic() - self._told_s > _TELL_S:
            self._told_s = time.monotonic()
            self._screen.print(f"  … {settled}{self._of} {self._what}")
        return not self._shutdown.requested


class _Announcer:
    """Tells each quarter of the starter model's fit."""

    def __init__(self, screen: Console) -> None:
        self._screen = screen
        self._told = -1

    def __call__(self, share: float, what: str) -> None:
        """Take a share."""
        quarter = int(share * 4)
        if quarter > self._told:
            self._told = quarter
            self._screen.print(f"  … starter model: {what} ({share:.0%})")


def _tell(outcome: Outcome, startup_s: float, options: SmokeOptions, screen: Console) -> None:
    found = {**dataclasses.asdict(outcome), "startup_s": round(startup_s, 2)}
    for name, value in found.items():
        screen.print(f"  {name:<14} {value}")
    if options.as_json:
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


def _tell_logs(screen: Console, data: Path) -> None:
    for path in sorted((data / "logs").glob("*.log")):
        screen.print(f"\n--- {path.name}", markup=False)
        screen.print(tail(path, 15), markup=False, soft_wrap=True)
