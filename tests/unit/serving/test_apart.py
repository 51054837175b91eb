"""What is derived from a version is made once, however many instances come up at the same time."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.serving.backend.apart import derived


def test_what_is_derived_is_made_once_and_found_whole_by_all_who_come_up_together(tmp_path: Path) -> None:
    made: list[str] = []
    together = threading.Barrier(4)

    def make(target: Path) -> None:
        made.append(target.name)
        (target / "graph").write_text("half")
        time.sleep(0.1)
        (target / "graph").write_text("whole")

    def come_up() -> tuple[str, int]:
        together.wait()
        graph = derived(tmp_path, "openvino-abc", ("graph",), make) / "graph"
        # The same file stays where it is while it is read: nobody replaces what is whole.
        inode = graph.stat().st_ino
        time.sleep(0.2)
        assert graph.stat().st_ino == inode
        return graph.read_text(), inode

    with ThreadPoolExecutor(4) as instances:
        found = [instances.submit(come_up) for _ in range(4)]
    assert {answer.result() for answer in found} == {("whole", found[0].result()[1])}
    assert len(made) == 1


def test_what_was_damaged_is_made_again(tmp_path: Path) -> None:
    def make(target: Path) -> None:
        (target / "graph").write_text("whole")

    kept = derived(tmp_path, "openvino-abc", ("graph",), make)
    (kept / "graph").write_text("damaged")
    assert (derived(tmp_path, "openvino-abc", ("graph",), make) / "graph").read_text() == "whole"


def test_who_fails_to_make_it_leaves_nothing_and_the_next_one_makes_it(tmp_path: Path) -> None:
    def fail(target: Path) -> None:
        (target / "graph").write_text("half")
        raise RuntimeError("translation")

    def make(target: Path) -> None:
        (target / "graph").write_text("whole")

    with pytest.raises(RuntimeError):
        derived(tmp_path, "openvino-abc", ("graph",), fail)
    assert not (tmp_path / "openvino-abc").exists()
    assert not list(tmp_path.glob(".openvino*"))
    assert (derived(tmp_path, "openvino-abc", ("graph",), make) / "graph").read_text() == "whole"
