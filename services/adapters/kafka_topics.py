"""Topics, made on purpose: partitions, retention, compaction and size are decided once, here and in settings."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from kafka import KafkaAdminClient, errors

from services.adapters.connection import KafkaConnection
from services.adapters.kafka import client_config, domain_error
from services.core import topics

LOG = logging.getLogger(__name__)

_MS_PER_HOUR = 3_600_000


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """What a topic must be like when it is created."""

    name: str
    partitions: int
    retention_ms: int | None = None
    """How long records are kept; ``None`` keeps them for good."""
    compacted: bool = False
    max_message_bytes: int = 1_048_588
    replication_factor: int = -1
    """-1 takes the broker's default."""

    def configs(self) -> dict[str, str]:
        """The topic's settings, as Kafka names them."""
        configs = {
            "cleanup.policy": "compact" if self.compacted else "delete",
            "max.message.bytes": str(self.max_message_bytes),
        }
        if not self.compacted:
            configs["retention.ms"] = str(-1 if self.retention_ms is None else self.retention_ms)
        return configs


def standard_topics(
    *,
    partitions: int = 4,
    retention_hours: float = 24.0,
    record_days: float = 400.0,
    max_message_bytes: int = 30_000_000,
    replication_factor: int = -1,
) -> list[TopicSpec]:
    """Every topic of the system with its dead-letter topic.

    Args:
        partitions: Of each topic that scales; aliases and dead letters have one.
        retention_hours: How long events are kept; dead letters seven times as long.
        record_days: How long topics are kept that are a record.
        max_message_bytes: Largest record.
        replication_factor: Copies of each record; -1 takes the broker's default.
    """
    retention_ms = int(retention_hours * _MS_PER_HOUR)
    record_ms = max(retention_ms, int(record_days * 24 * _MS_PER_HOUR))
    specs = []
    for name in topics.ALL:
        compacted = name in topics.COMPACTED
        kept_ms = record_ms if name in topics.RECORDS else retention_ms
        specs += [
            TopicSpec(
                name,
                1 if compacted else partitions,
                None if compacted else kept_ms,
                compacted,
                max_message_bytes,
                replication_factor,
            ),
            TopicSpec(topics.dead_letter(name), 1, 7 * retention_ms, False, max_message_bytes, replication_factor),
        ]
    return specs


def ensure_topics(connection: KafkaConnection, specs: Iterable[TopicSpec]) -> list[str]:
    """Create the topics that do not exist; those that do are the operator's and are left as they are.

    Returns:
        Names of the topics that were created.

    Raises:
        UnavailableError: When no broker answers in time.
        BrokerRefusedError: When the broker does not let this client create topics.
    """
    config = client_config(connection)
    admin = None
    try:
        admin = KafkaAdminClient(**config)
        existing = set(admin.list_topics())
        created = [spec.name for spec in specs if spec.name not in existing and _create(admin, spec)]
    except (errors.KafkaError, OSError) as error:
        raise domain_error(error, "create topics") from error
    finally:
        if admin is not None:
            admin.close()
    if created:
        LOG.info("created topics: %s", ", ".join(created))
    return created


def describe_topics(connection: KafkaConnection) -> dict[str, int]:
    """Number of partitions of every topic, by name; the broker's own topics are left out.

    Raises:
        UnavailableError: When no broker answers in time.
        BrokerRefusedError: When the broker does not let this client look.
    """
    admin = None
    try:
        admin = KafkaAdminClient(**client_config(connection))
        names = sorted(name for name in admin.list_topics() if not name.startswith("__"))
        described = admin.describe_topics(names) if names else []
        return {str(topic["name"]): len(topic["partitions"]) for topic in described}
    except (errors.KafkaError, OSError) as error:
        raise domain_error(error, "describe topics") from error
    finally:
        if admin is not None:
            admin.close()


def _create(admin: KafkaAdminClient, spec: TopicSpec) -> bool:
    options = {
        "num_partitions": spec.partitions,
        "replication_factor": spec.replication_factor,
        "configs": spec.configs(),
    }
    try:
        admin.create_topics({spec.name: options}, wait_for_metadata=True)
    except errors.TopicAlreadyExistsError:
        # Another process was faster.
        return False
    return True
