"""The line's recent past, in memory: what the wall and the part pages are drawn from.

Pure: verdicts and the present go in, values come out; nothing is read from a clock or a socket. Everything is
bounded: the frames with a page, the parts per camera, the cameras. A verdict that was seen already (same frame, alias
and version) changes nothing. Safe to use from several threads.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from services.core.types import Inspection, Verdict
from services.dashboard.rolling import POINTS, Figures, Point, Rolling, Sums, add_up, figures, points

_CameraKey = tuple[str, str]
_OrderKey = tuple[int, int, str]


@dataclass(frozen=True, slots=True)
class LiveBounds:
    """How much is kept.

    Attributes:
        max_frames: Frames that can be looked up.
        max_cameras: Cameras on the wall.
        parts_per_camera: Latest parts of each camera.
        flagged_per_camera: Latest FAIL and REVIEW parts of each camera.
        max_log: Accepted verdicts that a reconnecting page can catch up on.
    """

    max_frames: int = 20_000
    max_cameras: int = 512
    parts_per_camera: int = 24
    flagged_per_camera: int = 12
    max_log: int = 2_000


@dataclass(frozen=True, slots=True)
class CameraView:
    """One camera as it stands now."""

    line_id: str
    camera_id: str
    latest: tuple[Inspection, ...]
    """Newest first."""
    flagged: tuple[Inspection, ...]
    """Newest FAIL and REVIEW first."""
    figures: Figures


@dataclass(frozen=True, slots=True)
class LineView:
    """One line as it stands now."""

    line_id: str
    cameras: tuple[CameraView, ...]
    figures: Figures
    series: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class WallView:
    """Everything as it stands now."""

    revision: int
    lines: tuple[LineView, ...]
    figures: Figures
    series: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class PartView:
    """One frame with all that belongs to its page."""

    inspection: Inspection
    earlier: tuple[Inspection, ...]
    """Other verdicts on the same frame, newest first: another model version's, or one that was superseded."""
    views: tuple[Inspection, ...]
    """The other frames of the same part, by camera."""
    previous_frame_id: str | None
    next_frame_id: str | None
    neighbours: tuple[Inspection, ...]
    """Frames of the same camera around this one, oldest first, itself included."""


@dataclass(slots=True)
class _Camera:
    line_id: str
    camera_id: str
    rolling: Rolling = field(default_factory=Rolling)
    order: list[_OrderKey] = field(default_factory=list)
    """Every frame of the camera that can be looked up, by capture time and sequence."""
    flagged: list[_OrderKey] = field(default_factory=list)
    last_decided_ns: int = 0


class LiveModel:
    """The read model. Every method takes one lock, none of them waits for anything."""

    def __init__(self, bounds: LiveBounds | None = None) -> None:
        self._bounds = bounds or LiveBounds()
        self._lock = threading.Lock()
        self._frames: OrderedDict[str, list[Inspection]] = OrderedDict()
        self._parts: dict[str, list[str]] = {}
        self._cameras: dict[_CameraKey, _Camera] = {}
        self._revision = 0
        self._log: deque[tuple[int, Inspection]] = deque(maxlen=self._bounds.max_log)
        self._last_decided_ns = 0

    @property
    def revision(self) -> int:
        """How many verdicts were accepted; moves with every change."""
        return self._revision

    @property
    def last_decided_ns(self) -> int:
        """When the newest verdict was decided; 0 before the first."""
        return self._last_decided_ns

    def __len__(self) -> int:
        return len(self._frames)

    def add(self, inspections: Iterable[Inspection], now_ns: int) -> int:
        """Take verdicts in.

        Args:
            inspections: In any order; repeats are ignored.
            now_ns: The present, nanoseconds since the epoch.

        Returns:
            How many were new.
        """
        with self._lock:
            before = self._revision
            for inspection in inspections:
                self._add(inspection, now_ns)
            return self._revision - before

    def since(self, revision: int, line_id: str | None = None) -> tuple[int, list[Inspection]] | None:
        """What was accepted after a revision, each camera's latest ``parts_per_camera`` only.

        Args:
            revision: The revision that the asker knows.
            line_id: Leave out other lines.

        Returns:
            The revision reached and the verdicts, oldest first; None when the revision is too old (or from another
            life of this process) and a whole view is needed.
        """
        with self._lock:
            if revision > self._revision or revision < self._revision - len(self._log):
                return None
            fresh: list[Inspection] = []
            per_camera: dict[_CameraKey, int] = {}
            for number, inspection in reversed(self._log):
                if number <= revision:
                    break
                key = (inspection.line_id, inspection.camera_id)
                if line_id is not None and inspection.line_id != line_id:
                    continue
                per_camera[key] = per_camera.get(key, 0) + 1
                if per_camera[key] <= self._bounds.parts_per_camera:
                    fresh.append(inspection)
            fresh.reverse()
            return self._revision, fresh

    def wall(self, now_ns: int, line_id: str | None = None, series_points: int = POINTS) -> WallView:
        """Everything the wall shows.

        Args:
            now_ns: The present, nanoseconds since the epoch.
            line_id: Only this line.
            series_points: How many of the newest points of each curve.
        """
        with self._lock:
            by_line: dict[str, list[_Camera]] = {}
            for _, camera in sorted(self._cameras.items()):
                if line_id is None or camera.line_id == line_id:
                    by_line.setdefault(camera.line_id, []).append(camera)
            lines = tuple(self._line(name, cameras, now_ns, series_points) for name, cameras in by_line.items())
            everything = add_up([sums for _, sums in lines])
            return WallView(
                revision=self._revision,
                lines=tuple(line for line, _ in lines),
                figures=figures(everything),
                series=tuple(points(everything, now_ns, series_points)),
            )

    def find(self, frame_id: str) -> Inspection | None:
        """The verdict that stands on a frame, or None when the frame is not (or no longer) known."""
        with self._lock:
            verdicts = self._frames.get(frame_id)
            return verdicts[0] if verdicts else None

    def part(self, frame_id: str, around: int = 8) -> PartView | None:
        """All that belongs to one frame's page, or None when the frame is not (or no longer) known.

        Args:
            frame_id: The frame.
            around: How many neighbours of the same camera on each side.
        """
        with self._lock:
            verdicts = self._frames.get(frame_id)
            if not verdicts:
                return None
            current = verdicts[0]
            order = self._cameras[_camera_key(current)].order
            place = bisect_left(order, _order_key(current))
            near = order[max(0, place - around) : place + around + 1]
            others = (self._frames[other][0] for other in self._parts[current.part_id] if other != frame_id)
            return PartView(
                inspection=current,
                earlier=tuple(verdicts[1:]),
                views=tuple(sorted(others, key=lambda one: (one.camera_id, one.captured_at_ns))),
                previous_frame_id=order[place - 1][2] if place > 0 else None,
                next_frame_id=order[place + 1][2] if place + 1 < len(order) else None,
                neighbours=tuple(self._frames[key[2]][0] for key in near),
            )

    def _add(self, inspection: Inspection, now_ns: int) -> None:
        verdicts = self._frames.get(inspection.frame_id)
        if verdicts is not None:
            # One frame is one picture of one camera; a record that says otherwise is not about this frame.
            same = (inspection.alias, inspection.model_version)
            if any((one.alias, one.model_version) == same for one in verdicts):
                return
            if _camera_key(verdicts[0]) != _camera_key(inspection) or verdicts[0].part_id != inspection.part_id:
                return
            self._supersede(verdicts, inspection)
        else:
            self._insert(inspection)
        camera = self._cameras[_camera_key(inspection)]
        camera.rolling.add(inspection, now_ns)
        camera.last_decided_ns = max(camera.last_decided_ns, inspection.decided_at_ns)
        self._last_decided_ns = max(self._last_decided_ns, min(inspection.decided_at_ns, now_ns))
        self._revision += 1
        self._log.append((self._revision, inspection))
        while len(self._frames) > self._bounds.max_frames:
            self._forget(next(iter(self._frames)))

    def _insert(self, inspection: Inspection) -> None:
        key = _camera_key(inspection)
        camera = self._cameras.get(key)
        if camera is None:
            if len(self._cameras) >= self._bounds.max_cameras:
                self._forget_camera(min(self._cameras, key=lambda one: self._cameras[one].last_decided_ns))
            camera = self._cameras[key] = _Camera(*key)
        self._frames[inspection.frame_id] = [inspection]
        self._parts.setdefault(inspection.part_id, []).append(inspection.frame_id)
        insort(camera.order, _order_key(inspection))
        if inspection.verdict is not Verdict.PASS:
            self._flag(camera, inspection)

    def _supersede(self, verdicts: list[Inspection], inspection: Inspection) -> None:
        camera = self._cameras[_camera_key(inspection)]
        old_key = _order_key(verdicts[0])
        _remove(camera.flagged, old_key)
        _remove(camera.order, old_key)
        verdicts.append(inspection)
        # The verdict decided last stands; of two at one instant, the higher version.
        verdicts.sort(key=lambda one: (one.decided_at_ns, one.model_version), reverse=True)
        del verdicts[4:]
        insort(camera.order, _order_key(verdicts[0]))
        if verdicts[0].verdict is not Verdict.PASS:
            self._flag(camera, verdicts[0])

    def _flag(self, camera: _Camera, inspection: Inspection) -> None:
        insort(camera.flagged, _order_key(inspection))
        if len(camera.flagged) > self._bounds.flagged_per_camera:
            del camera.flagged[0]

    def _forget(self, frame_id: str) -> None:
        current = self._frames.pop(frame_id)[0]
        camera = self._cameras[_camera_key(current)]
        key = _order_key(current)
        _remove(camera.order, key)
        _remove(camera.flagged, key)
        siblings = self._parts[current.part_id]
        siblings.remove(frame_id)
        if not siblings:
            del self._parts[current.part_id]

    def _forget_camera(self, key: _CameraKey) -> None:
        for _, _, frame_id in tuple(self._cameras[key].order):
            self._forget(frame_id)
        del self._cameras[key]

    def _line(self, line_id: str, cameras: list[_Camera], now_ns: int, series_points: int) -> tuple[LineView, Sums]:
        per_camera = [camera.rolling.sums(now_ns) for camera in cameras]
        total = add_up(per_camera)
        view = LineView(
            line_id=line_id,
            cameras=tuple(self._camera(camera, sums) for camera, sums in zip(cameras, per_camera, strict=True)),
            figures=figures(total),
            series=tuple(points(total, now_ns, series_points)),
        )
        return view, total

    def _camera(self, camera: _Camera, sums: Sums) -> CameraView:
        latest = camera.order[-self._bounds.parts_per_camera :]
        return CameraView(
            line_id=camera.line_id,
            camera_id=camera.camera_id,
            latest=tuple(self._frames[key[2]][0] for key in reversed(latest)),
            flagged=tuple(self._frames[key[2]][0] for key in reversed(camera.flagged)),
            figures=figures(sums),
        )


def _camera_key(inspection: Inspection) -> _CameraKey:
    return inspection.line_id, inspection.camera_id


def _order_key(inspection: Inspection) -> _OrderKey:
    return inspection.captured_at_ns, inspection.sequence, inspection.frame_id


def _remove(ordered: list[_OrderKey], key: _OrderKey) -> bool:
    place = bisect_left(ordered, key)
    if place < len(ordered) and ordered[place] == key:
        del ordered[place]
        return True
    return False
