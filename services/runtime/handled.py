"""Ids that were handled already, so that what is sent twice is said once."""

from __future__ import annotations

from collections.abc import Iterable

from services.adapters.ports import TopicPartition


class HandledIds:
    """The last ids of each partition.

    A frame's copies have one key and so one partition; a bounded memory is enough, because a copy from further back is
    recognised by its ids downstream.

    Args:
        size: How many ids are remembered for each partition; 0 remembers none.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._ids: dict[TopicPartition, dict[str, None]] = {}

    def add(self, partition: TopicPartition, frame_id: str) -> bool:
        """Remember an id; tells whether it is new."""
        known = self._ids.setdefault(partition, {})
        if frame_id in known:
            return False
        if self._size:
            known[frame_id] = None
            if len(known) > self._size:
                # A dict keeps the order of insertion, so this is the oldest.
                del known[next(iter(known))]
        return True

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """Drop what is known of partitions that are no longer ours: what comes again is to be said again."""
        for partition in partitions:
            self._ids.pop(partition, None)
