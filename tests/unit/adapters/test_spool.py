from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.adapters.spool import Spool
from services.core.errors import InvalidInputError, SpoolFullError

MB = 1_000_000


def values(spool: Spool, count: int = 1_000_000) -> list[bytes]:
    return [record.value for record in spool.peek(count)]


def test_records_come_out_in_the_order_they_went_in(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=MB)
    assert [spool.append(b"%d" % number) for number in range(5)] == [1, 2, 3, 4, 5]
    assert values(spool) == [b"0", b"1", b"2", b"3", b"4"]
    assert values(spool, 2) == [b"0", b"1"]
    assert [record.number for record in spool.peek(2, skip=3)] == [4, 5]


def test_what_is_acknowledged_is_gone_and_its_files_with_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=MB, segment_bytes=100)
    for number in range(30):
        spool.append(b"x" * 40 + b"%02d" % number)
    assert len(list(tmp_path.glob("*.spool"))) == 15
    spool.acknowledge(29)
    assert len(spool) == 1
    assert len(list(tmp_path.glob("*.spool"))) == 1
    spool.acknowledge(30)
    assert (len(spool), spool.size_bytes, list(tmp_path.glob("*.spool"))) == (0, 0, [])
    assert spool.append(b"next") == 31
    assert values(spool) == [b"next"]


def test_a_new_process_finds_what_the_old_one_left(tmp_path: Path) -> None:
    first = Spool(tmp_path, max_bytes=MB)
    for number in range(4):
        first.append(b"%d" % number)
    first.acknowledge(2)
    # Not closed: as after kill -9.
    second = Spool(tmp_path, max_bytes=MB)
    assert values(second) == [b"2", b"3"]
    assert second.append(b"4") == 5
    assert values(Spool(tmp_path, max_bytes=MB)) == [b"2", b"3", b"4"]


def test_numbers_go_on_when_everything_was_acknowledged(tmp_path: Path) -> None:
    first = Spool(tmp_path, max_bytes=MB)
    first.append(b"a")
    first.acknowledge(1)
    first.close()
    second = Spool(tmp_path, max_bytes=MB)
    assert second.append(b"b") == 2
    assert values(Spool(tmp_path, max_bytes=MB)) == [b"b"]


@pytest.mark.parametrize("cut", range(1, 8 + 30))
def test_a_tail_torn_at_any_byte_is_left_out_and_counted(tmp_path: Path, cut: int) -> None:
    spool = Spool(tmp_path, max_bytes=MB)
    spool.append(b"a" * 30)
    spool.append(b"b" * 30)
    path = next(tmp_path.glob("*.spool"))
    os.truncate(path, path.stat().st_size - cut)
    back = Spool(tmp_path, max_bytes=MB)
    assert values(back) == [b"a" * 30]
    assert back.torn == 1
    back.append(b"c")
    assert values(Spool(tmp_path, max_bytes=MB)) == [b"a" * 30, b"c"]


def test_a_damaged_record_is_left_out_and_the_next_ones_are_not(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=MB)
    for letter in (b"a", b"b", b"c"):
        spool.append(letter * 30)
    path = next(tmp_path.glob("*.spool"))
    data = bytearray(path.read_bytes())
    data[38 + 20] ^= 1
    path.write_bytes(data)
    assert values(spool) == [b"a" * 30, b"c" * 30]
    assert spool.torn == 1
    back = Spool(tmp_path, max_bytes=MB)
    assert values(back) == [b"a" * 30, b"c" * 30]
    assert [record.number for record in back.peek(9)] == [1, 3]


def test_a_damaged_acknowledgement_lets_records_come_out_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=MB)
    spool.append(b"a")
    spool.append(b"b")
    spool.acknowledge(1)
    (tmp_path / "acknowledged").write_bytes(b"\x00" * 5 + b"\xff" * 7)
    assert values(Spool(tmp_path, max_bytes=MB)) == [b"a", b"b"]


def test_a_full_spool_that_blocks_refuses_and_keeps_all(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=100)
    spool.append(b"x" * 80)
    with pytest.raises(SpoolFullError, match="spool must stay within 100 bytes, got 88"):
        spool.append(b"y" * 80)
    assert values(spool) == [b"x" * 80]
    spool.acknowledge(1)
    spool.append(b"y" * 80)
    assert values(spool) == [b"y" * 80]


def test_a_full_spool_that_drops_gives_up_the_oldest_and_counts_them(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=1_000, policy="drop-oldest")
    for number in range(100):
        spool.append(b"%03d" % number + b"x" * 89)
    assert spool.size_bytes <= 1_000
    kept = [int(value[:3]) for value in values(spool)]
    assert kept == list(range(100 - len(kept), 100))
    assert spool.dropped == 100 - len(kept)
    assert len(kept) >= 5


def test_a_record_larger_than_the_bound_is_refused_by_both_policies(tmp_path: Path) -> None:
    for policy in ("block", "drop-oldest"):
        spool = Spool(tmp_path / policy, max_bytes=100, policy=policy)  # type: ignore[arg-type]
        spool.append(b"kept")
        with pytest.raises(SpoolFullError, match="at most 100 bytes, got 208"):
            spool.append(b"x" * 200)
        assert values(spool) == [b"kept"]


def test_bounds_below_one_byte_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="spool bounds must be >= 1 byte"):
        Spool(tmp_path, max_bytes=0)


@pytest.mark.parametrize("written", [0, 1, 7, 8, 20])
def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int) -> None:
    spool = Spool(tmp_path, max_bytes=MB)
    spool.append(b"first")
    real = os.pwrite
    calls = 0

    def full(file: int, data: bytes, offset: int) -> int:
        nonlocal calls
        calls += 1
        if calls == 1 and written:
            return real(file, bytes(data)[:written], offset)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(SpoolFullError, match="disk must have room for the spool"):
        spool.append(b"second" * 5)
    monkeypatch.setattr(os, "pwrite", real)
    spool.append(b"third")
    assert values(spool) == [b"first", b"third"]
    back = Spool(tmp_path, max_bytes=MB)
    assert (values(back), back.torn) == ([b"first", b"third"], 0)


def test_a_file_size_limit_of_the_system_is_a_full_spool(tmp_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from services.adapters.spool import Spool
from services.core.errors import SpoolFullError
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
spool = Spool(Path(sys.argv[1]), max_bytes=1_000_000)
try:
    for number in range(100):
        spool.append(b"%03d" % number + b"x" * 97)
except SpoolFullError as error:
    print(len(spool), "full")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["9", "full"]
    back = Spool(tmp_path, max_bytes=MB)
    assert [int(value[:3]) for value in values(back)] == list(range(9))
    assert back.torn == 0


WRITER = """
import sys
from pathlib import Path
from services.adapters.spool import Spool
spool = Spool(Path(sys.argv[1]), max_bytes=50_000_000, segment_bytes=20_000)
number = int(sys.argv[2])
while True:
    spool.append(number.to_bytes(8, "big") + b"x" * (number * 37 % 3000))
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
    if number % 5 == 0:
        spool.acknowledge(spool.peek(1)[0].number)
    number += 1
"""


def test_what_was_appended_survives_a_kill_at_any_moment(tmp_path: Path) -> None:
    following = 0
    for round_ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(following)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        end_s = time.monotonic() + 60
        told = -1
        while told < following + 200 + 31 * round_:
            line = process.stdout.readline()
            assert line
            assert time.monotonic() < end_s
            told = int(line)
        process.send_signal(signal.SIGKILL)
        rest = process.communicate(timeout=30)[0].split()
        told = int(rest[-1]) if rest and rest[-1].isdigit() else told
        spool = Spool(tmp_path, max_bytes=50 * MB)
        kept = [int.from_bytes(value[:8], "big") for value in values(spool)]
        assert kept == list(range(kept[0], kept[-1] + 1))
        assert kept[-1] >= told
        following = kept[-1] + 1
        spool.close()


@given(
    st.lists(
        st.tuples(st.just("append"), st.binary(max_size=60))
        | st.tuples(st.just("acknowledge"), st.integers(0, 5))
        | st.tuples(st.just("reopen"), st.none()),
        max_size=40,
    )
)
@settings(max_examples=60, deadline=None)
def test_it_is_a_queue_whatever_is_done_in_whatever_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, bytes | int | None]]
) -> None:
    directory = tmp_path_factory.mktemp("spool")
    spool = Spool(directory, max_bytes=MB, segment_bytes=80)
    expected: list[bytes] = []
    for step, argument in steps:
        if step == "append":
            assert isinstance(argument, bytes)
            spool.append(argument)
            expected.append(argument)
        elif step == "acknowledge":
            assert isinstance(argument, int)
            records = spool.peek(argument)
            if records:
                spool.acknowledge(records[-1].number)
                del expected[: len(records)]
        else:
            spool.close()
            spool = Spool(directory, max_bytes=MB, segment_bytes=80)
        assert values(spool) == expected
    assert spool.torn == 0
    spool.close()
