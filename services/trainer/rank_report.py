"""The page of a search: how much was flagged, and the most anomalous pictures with the places that made them so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from services.core.errors import ImageError
from services.core.explain.heatmap import UNCALIBRATED, lay_over
from services.core.imaging import data_url, thumbnail
from services.trainer.fitted import FittedVersion
from services.trainer.ranking import BLOCK, Ranking, Top, per_thousand, read_picture

REPORT: Final = "report.html"

_TILE_PX: Final = 224
_BAR_PX: Final = 260
#: Share of the work that goes into finding where colour begins.
_SCALE_SHARE: Final = 0.3


def write_rank_report(
    version: FittedVersion,
    data: Path,
    ranking: Ranking,
    out: Path,
    progress: Callable[[float, str], None] = lambda _share, _what: None,
) -> Path:
    """Write the page, with its pictures inside.

    Args:
        version: What ranked them.
        data: The archive.
        ranking: What was found.
        out: Folder of the page.
        progress: Told how far it is.

    Returns:
        The page.
    """
    scale = UNCALIBRATED
    if ranking.top:
        scale = version.heat_scale(lambda share: progress(_SCALE_SHARE * share, "finding where colour begins"))
    figures = []
    for number, one in enumerate(ranking.top):
        progress(_SCALE_SHARE + (1 - _SCALE_SHARE) * number / len(ranking.top), f"explaining rank {one.rank}")
        figures.append(_figure(version, data, one, scale))
    manifest = version.manifest
    environment = Environment(
        loader=PackageLoader("services.trainer", "templates"), autoescape=True, undefined=StrictUndefined
    )
    page = environment.get_template("rank.html").render(
        conditions={
            "archive": str(data),
            "version": f"{manifest.alias} {manifest.version}, {manifest.architecture}",
            "made from": manifest.lineage.description,
            "operating point": f"FAIL from {manifest.operating_point.review_high:.4g}, "
            f"REVIEW from {manifest.operating_point.review_low:.4g}",
            "maps": version.method + ("" if scale.is_calibrated else ", colours not calibrated"),
        },
        whole=ranking.whole,
        rates=_rates(ranking),
        block=BLOCK,
        broken=ranking.broken,
        broken_files=ranking.broken_files,
        figures=figures,
    )
    path = out / REPORT
    unfinished = path.with_suffix(".part")
    unfinished.write_text(page, encoding="utf-8", errors="replace")
    unfinished.replace(path)
    return path


def _figure(version: FittedVersion, data: Path, one: Top, scale: Any) -> dict[str, Any]:
    try:
        seen = version.see(read_picture(data / one.file)[1], one.tile)
    except ImageError as error:
        return {"one": one, "picture": "", "map": "", "problem": error.reason}
    picture = thumbnail(seen.picture, _TILE_PX)
    painted = "" if seen.values is None else data_url(lay_over(picture, seen.values, scale))
    return {"one": one, "picture": data_url(picture), "map": painted, "problem": seen.problem}


def _rates(ranking: Ranking) -> list[dict[str, Any]]:
    most = max((block.flagged + block.review for block in ranking.blocks), default=0)
    rows = [("all", ranking.whole)]
    rows += [
        (f"{number * BLOCK + 1} to {number * BLOCK + block.scored}", block)
        for number, block in enumerate(ranking.blocks)
    ]
    return [
        {
            "name": name,
            "block": block,
            "flagged": per_thousand(block.flagged, block.scored),
            "review": per_thousand(block.review, block.scored),
            "flagged_px": _BAR_PX * block.flagged / most if most and name != "all" else 0,
            "review_px": _BAR_PX * block.review / most if most and name != "all" else 0,
        }
        for name, block in rows
    ]
