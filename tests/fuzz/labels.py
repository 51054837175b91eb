"""labels.csv of a folder of pictures that somebody brings along."""

from __future__ import annotations

import atexit
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path

from tests.fuzz.harness import instrumented, refused, run

with instrumented(__name__):
    from services.adapters.datasets import read_labelled_folder

NAME = "labels"


def check(data: bytes) -> None:
    folder = _folder()
    (folder / "labels.csv").write_bytes(data)
    images = refused(lambda: read_labelled_folder(folder))
    if images is not None:
        # Nothing that a table says leads out of its folder.
        assert {image.path.parent for image in images} <= {folder / "images"}
        assert len({image.path for image in images}) == len(images)


@cache
def _folder() -> Path:
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="sightline-fuzz-", dir=place))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "images").mkdir()
    for name in ("a.png", "b.png", "c.jpg", "c.png"):
        (folder / "images" / name).write_bytes(b"is not read here")
    return folder


def seeds() -> dict[str, bytes]:
    return {
        "plain": b"file,defect,class,group\na.png,0,,1\nb,1,dent,2\n",
        "quoted": b'\xef\xbb\xbf"file","defect"\r\n"c.jpg","yes"\r\n',
    }


if __name__ == "__main__":
    sys.exit(run(NAME, check))
