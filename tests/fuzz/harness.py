"""What every fuzz target is run by: coverage-guided where atheris is, by replaying its corpus where it is not."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, TypeVar

from services.core.errors import SightlineError

T = TypeVar("T")
Mutate = Callable[[bytes, random.Random], bytes]

CORPUS: Final = Path(__file__).parent / "corpus"

# One input may take this long and this much: what is slower or larger is a finding too.
_BOUNDS: Final = ("-timeout=10", "-rss_limit_mb=3072", "-malloc_limit_mb=1024")


@contextlib.contextmanager
def instrumented(module: str) -> Iterator[None]:
    """Have what is imported meanwhile report which of its branches ran, when ``module`` is the program itself."""
    if module != "__main__" or not _has_atheris():
        yield
        return
    import atheris

    with atheris.instrument_imports(include=["services"]):
        yield


def refused(work: Callable[[], T]) -> T | None:
    """What a parser gives; None where it refuses in the one way that it may. Anything else is a finding."""
    try:
        return work()
    except SightlineError:
        return None


def cut(data: bytes, count: int) -> tuple[int, bytes]:
    """A choice out of ``count``, by the first byte, and the rest."""
    return (data[0] % count, data[1:]) if data else (0, b"")


def run(name: str, check: Callable[[bytes], object], mutate: Mutate | None = None) -> None:
    """Fuzz as the command line says, with libFuzzer's own options; the corpus of the target comes first.

    Args:
        name: Of the target and its corpus.
        check: Takes what comes from outside; raises on a finding.
        mutate: Makes an input of another, for a format that changed bytes rarely keep; half of the inputs are still
            made by changing bytes.
    """
    # A parser that says what it leaves out would say it a thousand times a second.
    logging.disable(logging.CRITICAL)
    folders = [given for given in sys.argv[1:] if not given.startswith("-")]
    if not _has_atheris():
        print(f"{name}: atheris does not run here, its corpus is replayed")
        for path in [one for folder in folders or [CORPUS / name] for one in files_of(Path(folder))]:
            check(path.read_bytes())
        return
    import atheris

    # libFuzzer starts itself again to merge corpora, through a shell.
    arguments = [f"{sys.executable} -m tests.fuzz.{name}", *_BOUNDS, *sys.argv[1:]]
    dictionary = CORPUS / f"{name}.dict"
    if dictionary.exists():
        arguments.insert(1, f"-dict={dictionary}")
    if not folders:
        arguments.append(str(CORPUS / name))

    def one_input(data: bytes) -> None:
        check(data)

    def mutated(data: bytes, max_size: int, seed: int) -> bytes:
        made = mutate(data, random.Random(seed)) if mutate is not None and seed % 2 else atheris.Mutate(data, max_size)
        return bytes(made[:max_size])

    if mutate is None:
        atheris.Setup(arguments, one_input)
    else:
        atheris.Setup(arguments, one_input, custom_mutator=mutated)
    atheris.Fuzz()


def files_of(folder: Path) -> list[Path]:
    """The inputs of a corpus, in one order; a file stands for itself."""
    return [folder] if folder.is_file() else sorted(path for path in folder.iterdir() if path.is_file())


def write_seeds(name: str, seeds: Mapping[str, bytes]) -> None:
    """Put the inputs that a corpus begins with where they are kept, named as libFuzzer names its own."""
    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    for data in seeds.values():
        (folder / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)


@functools.cache
def _has_atheris() -> bool:
    try:
        import atheris
    except ImportError:
        return False
    return hasattr(atheris, "Fuzz")
