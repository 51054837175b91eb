"""The detector as it is, which also writes down the names of its threads for whoever measures them."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

from services.detector.__main__ import main
from services.runtime.lifecycle import main_guard


def _write_names(path: Path) -> None:
    while True:
        # A thread that is just being started has no id yet.
        names = {thread.native_id: thread.name for thread in threading.enumerate() if thread.native_id is not None}
        staging = path.with_suffix(".new")
        staging.write_text(json.dumps(names))
        staging.replace(path)
        time.sleep(1.0)


if __name__ == "__main__":
    target = os.environ.get("BENCH_THREAD_NAMES")
    if target:
        threading.Thread(target=_write_names, args=(Path(target),), name="names", daemon=True).start()
    main_guard(main)
