"""What a line of its own is fed with: a known number of frames, described to ingest in a YAML file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

_SEED = 9_000_000


def simulated_feed(path: Path, *, frames: int, rate_fps: float = 0.0) -> Path:
    """Drawn parts from two cameras, each of them with half of the frames.

    Args:
        path: File to write.
        frames: How many frames in all.
        rate_fps: Of each camera, frames a second; 0 goes as fast as it can.

    Returns:
        ``path``.
    """
    half = frames // 2
    shares = {"disc": frames - half, "fabric": half}
    cameras = [
        {
            "camera_id": f"{product}-1",
            "line_id": "line-1",
            "product": product,
            "source": {"kind": "simulated", "rate_fps": rate_fps, "seed": _SEED, "max_frames": share},
        }
        for product, share in shares.items()
        if share
    ]
    return _write(path, cameras)


def folder_feed(path: Path, folder: Path, *, most: int | None = None) -> tuple[Path, int]:
    """Every file of a folder and of the folders in it, once.

    Args:
        path: File to write.
        folder: Where the files are.
        most: End after so many.

    Returns:
        ``path``, and how many frames there will be.
    """
    count = count_files(folder)
    if most is not None:
        count = min(count, most)
    source = {"kind": "replay", "path": str(folder.resolve()), "recursive": True, "max_frames": most or 0}
    camera = {"camera_id": "folder-1", "line_id": "line-1", "product": "part", "source": source}
    return _write(path, [camera]), count


def count_files(folder: Path) -> int:
    """Files that a replay of the folder sends: all but hidden ones."""
    count = 0
    for _, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        count += sum(1 for name in files if not name.startswith("."))
    return count


def _write(path: Path, cameras: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"cameras": cameras}, sort_keys=False))
    return path
