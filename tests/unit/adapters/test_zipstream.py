"""Archives in pieces: read by Python's own reader and by Info-ZIP's, small ones and such as need 64 bits."""

from __future__ import annotations

import io
import random
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.adapters.zipstream import PIECE_BYTES, Spool, ZipStream
from services.core.errors import InvalidInputError

NOISE = random.Random(1).randbytes(600_000)


def pieces(stream: ZipStream) -> Iterator[bytes]:
    yield from stream.folder("ok/")
    yield from stream.file("ok/a.jpg", NOISE, compress=False)
    yield from stream.file("ok/ä b.txt", b"x" * 100_000, compress=True)
    yield from stream.file("empty", b"", compress=False)
    yield from stream.pieces("table.json", (b"abc" * 1_000 for _ in range(1_000)))
    yield from stream.pieces("nothing.csv", ())
    yield from stream.end()
    stream.close()


@pytest.mark.parametrize(("most_32", "most_16"), [(0xFFFF_FFFF, 0xFFFF), (50, 3), (700_000, 0xFFFF)])
def test_an_archive_is_read_by_those_who_read_archives(most_32: int, most_16: int, tmp_path: Path) -> None:
    data = b"".join(pieces(ZipStream(1_000, most_32=most_32, most_16=most_16)))
    found = zipfile.ZipFile(io.BytesIO(data))
    assert found.testzip() is None
    assert found.namelist() == ["ok/", "ok/a.jpg", "ok/ä b.txt", "empty", "table.json", "nothing.csv"]
    assert found.read("ok/a.jpg") == NOISE
    assert found.read("table.json") == b"abc" * 1_000_000
    assert found.getinfo("ok/").is_dir()
    assert {one.date_time for one in found.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    if shutil.which("unzip"):
        (tmp_path / "a.zip").write_bytes(data)
        done = subprocess.run(["unzip", "-tq", tmp_path / "a.zip"], capture_output=True, check=False)
        assert done.returncode == 0, done.stdout


def test_sizes_come_before_the_data_so_that_a_stream_can_be_read_as_it_comes() -> None:
    data = b"".join(ZipStream(1_000).file("a.jpg", b"123", compress=False))
    # No bit that puts the sizes behind (bit 3), and the sizes in their places.
    assert int.from_bytes(data[6:8], "little") & 8 == 0
    assert int.from_bytes(data[22:26], "little") == 3


def test_pieces_are_small() -> None:
    assert max(len(piece) for piece in pieces(ZipStream(1_000))) <= PIECE_BYTES


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=300), st.booleans()), max_size=6), st.integers(1, 400))
def test_whatever_lies_in_it_comes_out_again(files: list[tuple[bytes, bool]], most_32: int) -> None:
    stream = ZipStream(100, most_32=most_32, most_16=4)
    data = b"".join(b"".join(stream.file(f"{at}.x", one, compress=packed)) for at, (one, packed) in enumerate(files))
    found = zipfile.ZipFile(io.BytesIO(data + b"".join(stream.end())))
    assert [found.read(name) for name in found.namelist()] == [one for one, _ in files]


def test_without_its_end_it_is_no_archive() -> None:
    data = b"".join(ZipStream(1_000).file("a.jpg", NOISE, compress=False))
    with pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(io.BytesIO(data))


@pytest.mark.parametrize("name", ["", "x" * 65_536])
def test_a_path_that_no_archive_can_have_is_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match="must have 1 to 65535 bytes"):
        list(ZipStream(1_000).file(name, b"", compress=False))


def test_a_spool_gives_back_what_it_was_given_more_than_once() -> None:
    spool = Spool(10)
    spool.write(b"beginning")
    spool.write(NOISE)
    assert spool.size_bytes == 9 + len(NOISE)
    assert b"".join(spool.read()) == b"".join(spool.read()) == b"beginning" + NOISE
    spool.close()
    spool.close()
