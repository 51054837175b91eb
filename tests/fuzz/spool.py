"""What lies on disk between a camera and the broker: whatever a power cut or somebody else made of it, it opens."""

from __future__ import annotations

import atexit
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path

from tests.fuzz.harness import cut, instrumented, refused, run

with instrumented(__name__):
    from services.adapters.spool import Spool, _framed
    from services.ingest.outgoing import from_disk, to_disk
    from services.outcome.postbox import _packed, _unpacked

NAME = "spool"
_LAST = b"what comes after"
_SEGMENT = f"{1:020d}.spool"


def check(data: bytes) -> None:
    way, body = cut(data, 4)
    if way == 0:
        found = refused(lambda: from_disk(body))
        if found is not None:
            assert to_disk(from_disk(to_disk(found))) == to_disk(found)
    elif way == 1:
        event = refused(lambda: _unpacked(body))
        if event is not None and event[0].isascii():
            assert _packed(*event) == body
    else:
        _reopen(body, "acknowledged" if way == 2 else _SEGMENT)


def _reopen(body: bytes, name: str) -> None:
    folder = _folder() / "spool"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / name).write_bytes(body)
    spool = Spool(folder, max_bytes=4_000_000)
    try:
        spool.append(_LAST)
        records = spool.peek(100_000)
        assert records[-1].value == _LAST
        assert [one.number for one in records] == sorted({one.number for one in records})
        spool.acknowledge(records[-1].number)
        assert len(spool) == 0
    finally:
        spool.close()


@cache
def _folder() -> Path:
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="sightline-fuzz-", dir=place))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def seeds() -> dict[str, bytes]:
    from services.ingest.outgoing import Outgoing
    from tests.unit.adapters.test_codec import a_frame

    return {
        "frame": b"\x00" + to_disk(Outgoing(a_frame(), (("traceparent", b"00-1"),), "", "")),
        "deep": b"\x00" + (2_000).to_bytes(4, "big") + b"[" * 2_000,
        "event": b"\x01" + _packed("sightline.outcomes.v1", b"part-1", b"value"),
        "segment": b"\x03" + _framed(b"one") + _framed(b"") + _framed(b"three" * 40),
    }


if __name__ == "__main__":
    sys.exit(run(NAME, check))
