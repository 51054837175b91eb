"""What runs inside Triton's Python backend: one engine per kind of machine.

OpenVINO reports each import and translation to its maker over the network, from a forked child; ONNX Runtime keeps a
device id and reports each process and session. A line speaks to nobody outside unasked, and a fork of a process with
threads may hang. Without its telemetry module OpenVINO stays silent; ONNX Runtime reads its variable when it is
imported.
"""

import os
import sys

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
