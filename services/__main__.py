"""Runs the service that an image was made for: ``python -m services``, with ``SIGHTLINE_SERVICE`` from its Dockerfile.

An entry point in exec form, so that the service itself is process 1 and gets SIGTERM, cannot be written with a build
argument; this module can be named in it whichever service the image holds.
"""

from __future__ import annotations

import importlib
import os
import sys

SERVICES = ("ingest", "detector", "outcome", "explainer", "feedback", "trainer", "serving", "dashboard")


def main() -> None:
    """Run the service, or end with code 2 where none is named."""
    name = os.environ.get("SIGHTLINE_SERVICE", "")
    if name not in SERVICES:
        sys.stderr.write(f"SIGHTLINE_SERVICE must be one of {', '.join(SERVICES)}, got {name!r}\n")
        sys.exit(2)
    importlib.import_module(f"services.{name}.__main__").main()


if __name__ == "__main__":
    main()
