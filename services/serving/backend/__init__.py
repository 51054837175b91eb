"""What runs inside Triton's Python backend: one engine per kind of machine.

OpenVINO reports each import and translation to its maker over the network, from a forked child. A line speaks to nobody
outside unasked, and a fork of a process with threads may hang; without its telemetry module OpenVINO stays silent.
"""

import sys

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
