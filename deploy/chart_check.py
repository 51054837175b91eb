"""Renders the chart with each of its example values and holds every manifest against Kubernetes' own schemas."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "charts" / "sightline"
HELM = ROOT / ".tools" / "kubernetes" / "bin" / "helm"

#: The three newest that kubernetes-validate brings schemas for.
KUBERNETES = ("1.35", "1.36", "1.37")

#: Defined by operators, so Kubernetes has no schema for them; tests/unit/chart looks at what they say.
OPERATORS = ("monitoring.coreos.com/", "keda.sh/", "cert-manager.io/")


def helm(*arguments: str | Path) -> str:
    """Run helm.

    Raises:
        SystemExit: With what it said, if it refuses.
    """
    done = subprocess.run([HELM, *arguments], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        sys.exit(f"helm {' '.join(map(str, arguments))}\n{done.stdout}{done.stderr}")
    return done.stdout


def complaints(manifest: dict[str, Any], version: str) -> str:
    """What a version of Kubernetes has against a manifest; empty for nothing.

    Args:
        manifest: One rendered object.
        version: Kubernetes' minor version, such as ``1.37``.
    """
    if manifest["apiVersion"].startswith(OPERATORS):
        return ""
    try:
        kubernetes_validate.validate(manifest, version, strict=True)
    except kubernetes_validate.SchemaNotFoundError:
        return f"{manifest['apiVersion']} {manifest['kind']} is not known"
    except kubernetes_validate.ValidationError as error:
        return f"{'.'.join(map(str, error.path))}: {error.message}"
    return ""


def main() -> int:
    """Check all example values; 0 if nothing was found."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    found = 0
    for values in sorted((CHART / "ci").glob("*-values.yaml")):
        helm("lint", "--strict", "--quiet", CHART, "--namespace", "plant", "--values", values)
        rendered = helm("template", "sightline", CHART, "--namespace", "plant", "--values", values)
        manifests = [each for each in yaml.safe_load_all(rendered) if each]
        for version in KUBERNETES:
            for manifest in manifests:
                if why := complaints(manifest, version):
                    found += 1
                    where = f"{values.name}, Kubernetes {version}, {manifest['kind']} {manifest['metadata']['name']}"
                    sys.stderr.write(f"{where}: {why}\n")
        sys.stdout.write(f"{values.name}: {len(manifests)} manifests, Kubernetes {', '.join(KUBERNETES)}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
