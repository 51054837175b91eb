"""Writes a CycloneDX list of what is installed beside this Python, for an image: ``python sbom.py SERVICE VERSION``.

Standard library only: it runs in an image's build, where nothing but the image's own packages is installed.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import Distribution, distributions
from typing import Any


def component(found: Distribution) -> dict[str, Any]:
    """One installed package.

    Args:
        found: As Python's own metadata has it.
    """
    name, version = found.metadata["Name"], found.version
    purl = f"pkg:pypi/{name.lower().replace('_', '-')}@{version}"
    told: dict[str, Any] = {"type": "library", "name": name, "version": version, "purl": purl, "bom-ref": purl}
    licence = found.metadata["License-Expression"] or found.metadata["License"]
    # Some packages put the whole text there.
    if licence and "\n" not in licence and len(licence) < 200:
        told["licenses"] = [{"license": {"name": licence}}]
    return told


def bill_of_materials(service: str, version: str) -> dict[str, Any]:
    """The list for one image.

    Args:
        service: What the image holds.
        version: Of the product.
    """
    components = {one["purl"]: one for one in map(component, distributions()) if one["name"].lower() != "sightline"}
    product = {"type": "container", "name": f"sightline-{service}", "version": version, "bom-ref": "image"}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": product},
        "components": [components[purl] for purl in sorted(components)],
    }


if __name__ == "__main__":
    json.dump(bill_of_materials(*sys.argv[1:3]), sys.stdout, indent=1)
