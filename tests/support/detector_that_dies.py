"""A detector that ends, as by ``kill -9``, after its outputs are acknowledged and before it commits them."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping

from services.adapters.kafka import KafkaRecordConsumer
from services.adapters.ports import TopicPartition
from services.detector.__main__ import main
from services.runtime.lifecycle import main_guard


def _die(_consumer: KafkaRecordConsumer, offsets: Mapping[TopicPartition, int]) -> None:
    if offsets:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    KafkaRecordConsumer.commit = _die  # type: ignore[method-assign]
    main_guard(main)
