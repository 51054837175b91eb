"""Writes the dashboards to charts/sightline/files/dashboards; with ``--check`` only says whether they are current."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from boards import ALL

FOLDER = Path(__file__).resolve().parents[2] / "charts" / "sightline" / "files" / "dashboards"


def main() -> int:
    """Write or check; 1 when what lies there is not current."""
    wanted = {
        f"{each.uid.removeprefix('sightline-')}.json": json.dumps(each.to_json(), indent=2, ensure_ascii=False) + "\n"
        for each in ALL
    }
    found = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    if "--check" in sys.argv[1:]:
        if found != wanted:
            names = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
            sys.stderr.write(f"dashboards must be current, these are not: {', '.join(names)}; run make dashboards\n")
            return 1
        return 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in set(found) - set(wanted):
        (FOLDER / name).unlink()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
