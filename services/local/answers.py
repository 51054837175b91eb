"""How the line of this machine is answered: an outcome service, and a simulated PLC where its cameras wait for one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from services.core.errors import InvalidInputError
from services.local.process import LOOPBACK

#: What the PLC says for a product, as its programmers would.
_FIRST_RECIPE = 1


@dataclass(frozen=True, slots=True)
class SimulatedLine:
    """A line whose cameras wait for a PLC."""

    line_id: str
    modbus_port: int


@dataclass(frozen=True, slots=True)
class AnsweredCamera:
    """What is asked of a camera's settings."""

    camera_id: str
    line_id: str
    product: str
    cycle_time_ms: int
    triggered: bool
    simulated: bool


def read_cameras(path: Path) -> list[AnsweredCamera]:
    """The cameras of ingest's settings, as far as they matter here.

    Args:
        path: YAML, checked in full by ingest itself.

    Raises:
        InvalidInputError: If it holds no list of cameras.
    """
    try:
        found = yaml.safe_load(path.read_text())
        listed: list[dict[str, Any]] = found["cameras"]
        return [
            AnsweredCamera(
                camera_id=str(one["camera_id"]),
                line_id=str(one["line_id"]),
                product=str(one["product"]),
                cycle_time_ms=int(one.get("cycle_time_ms", 0)),
                triggered=bool(one.get("triggered", False)),
                simulated=one["source"]["kind"] == "simulated",
            )
            for one in listed
        ]
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise InvalidInputError(
            f"{path} must hold the settings of cameras, got {type(error).__name__}: {error}"
        ) from error


def simulated_lines(cameras: Sequence[AnsweredCamera], ports: Sequence[int]) -> list[SimulatedLine]:
    """The lines all of whose cameras are simulated and wait for a trigger, each with a port for its PLC.

    Args:
        cameras: All of them.
        ports: Free ones, as many as there may be such lines.
    """
    lines = sorted({camera.line_id for camera in cameras})
    waiting = [
        line_id
        for line_id in lines
        if all(one.triggered and one.simulated for one in cameras if one.line_id == line_id)
    ]
    return [SimulatedLine(line_id, port) for line_id, port in zip(waiting, ports, strict=False)]


def plc_command(line: SimulatedLine) -> list[str]:
    """The command line of a line's simulated PLC: reference parts first, then two parts a second."""
    return [
        sys.executable,
        "-m",
        "services.cli",
        "plc-sim",
        "--address",
        f"{LOOPBACK}:{line.modbus_port}",
        "--line",
        line.line_id,
        "--rate",
        "2",
        "--reference",
        "1,1",
    ]


def write_outcome_settings(
    path: Path, cameras: Sequence[AnsweredCamera], simulated: Sequence[SimulatedLine], folder: Path
) -> Path:
    """Write the settings of the outcome service: every camera of a product must see the part.

    Args:
        path: The YAML file to write.
        cameras: All of them.
        simulated: Lines with a simulated PLC.
        folder: Where each line's outcomes are written, a file a day.

    Returns:
        ``path``.
    """
    products = sorted({(camera.line_id, camera.product) for camera in cameras})
    parts = [
        {
            "product": product,
            "line_id": line_id,
            "cameras": [one.camera_id for one in cameras if (one.line_id, one.product) == (line_id, product)],
        }
        for line_id, product in products
    ]
    plcs = {line.line_id: line for line in simulated}
    lines = [
        _line(line_id, [one for one in cameras if one.line_id == line_id], plcs.get(line_id), folder)
        for line_id in sorted({camera.line_id for camera in cameras})
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"parts": parts, "lines": lines}, sort_keys=False))
    return path


def _line(line_id: str, cameras: Sequence[AnsweredCamera], plc: SimulatedLine | None, folder: Path) -> dict[str, Any]:
    products = sorted({camera.product for camera in cameras})
    cycles = [camera.cycle_time_ms for camera in cameras if camera.cycle_time_ms]
    line: dict[str, Any] = {
        "line_id": line_id,
        "recipes": {str(number): product for number, product in enumerate(products, _FIRST_RECIPE)},
        "connections": [{"name": "file", "kind": "file", "folder": str(folder)}],
    }
    if cycles:
        line["cycle_time_ms"] = min(cycles)
    if plc is not None:
        line["connections"].insert(0, {"name": "plc", "kind": "modbus", "host": LOOPBACK, "port": plc.modbus_port})
        line["reference_parts"] = [
            {"part_id": "ref-good*", "expected": "pass"},
            {"part_id": "ref-bad*", "expected": "fail"},
        ]
    return line
