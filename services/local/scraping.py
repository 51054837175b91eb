"""What a Prometheus on this machine needs to watch the line that runs here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from services.core.errors import NotFoundError

#: Addresses in a line's note that are no service's ops port.
_NOT_SERVICES = frozenset({"page", "triton_metrics"})


def scrape_config(addresses: Mapping[str, str], *, rules: Sequence[Path] = (), interval_s: int = 5) -> dict[str, Any]:
    """Describe a line to Prometheus; jobs are named as in every other installation, so rules and dashboards fit.

    Args:
        addresses: Of a running line, as ``read_addresses`` gives them.
        rules: Rule files to load.
        interval_s: Time between two scrapes, seconds; rules are evaluated as often.

    Returns:
        What ``prometheus.yml`` holds.

    Raises:
        NotFoundError: When no line runs.
    """
    targets = {f"sightline-{name}": url for name, url in addresses.items() if name not in _NOT_SERVICES}
    if not targets:
        raise NotFoundError("a line must run to be scraped, found none; start one with: sightline run")
    if addresses.get("triton_metrics"):
        targets["sightline-triton"] = addresses["triton_metrics"]
    return {
        "global": {"scrape_interval": f"{interval_s}s", "evaluation_interval": f"{interval_s}s"},
        "rule_files": [str(path.resolve()) for path in rules],
        "scrape_configs": [_job(name, urlsplit(url)) for name, url in sorted(targets.items())],
    }


def _job(name: str, url: SplitResult) -> dict[str, Any]:
    return {"job_name": name, "scheme": url.scheme, "static_configs": [{"targets": [url.netloc]}]}
