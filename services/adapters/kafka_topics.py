"""Topics, made on purpose: partitions, retention, compaction and size are decided once, here and in settings."""

from __future__ import annotations

import enum
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kafka import KafkaAdminClient, errors
from kafka.admin import ConfigResource, ConfigResourceType

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
    min_insync_replicas: int = 0
    """Copies that must be written before a record is acknowledged; 0 takes the broker's default."""

    def configs(self) -> dict[str, str]:
        """The topic's settings, as Kafka names them."""
        configs = {
            "cleanup.policy": "compact" if self.compacted else "delete",
            "max.message.bytes": str(self.max_message_bytes),
        }
        if not self.compacted:
            configs["retention.ms"] = str(-1 if self.retention_ms is None else self.retention_ms)
        if self.min_insync_replicas:
            configs["min.insync.replicas"] = str(self.min_insync_replicas)
        return configs


class TopicWork(enum.Enum):
    """What has to be done so that a topic is as it is wanted."""

    CREATE = "create"
    PARTITIONS = "add partitions"
    CONFIGS = "set"
    MORE_PARTITIONS = "keep"
    """It has more partitions than wanted: they are never taken away, since keys would move to others."""
    REPLICATION = "keep copies"
    """It has other copies than wanted: a broker's operator moves data, a client does not."""


@dataclass(frozen=True, slots=True)
class TopicChange:
    """One difference between a topic and what is wanted."""

    topic: str
    work: TopicWork
    before: str
    after: str

    @property
    def by_hand(self) -> bool:
        """Whether it is told only, and left to a person."""
        return self.work in (TopicWork.MORE_PARTITIONS, TopicWork.REPLICATION)


def standard_topics(
    *,
    partitions: int = 4,
    retention_hours: float = 24.0,
    record_days: float = 400.0,
    max_message_bytes: int = 30_000_000,
    replication_factor: int = -1,
    min_insync_replicas: int = 0,
) -> list[TopicSpec]:
    """Every topic of the system with its dead-letter topic.

    Args:
        partitions: Of each topic that scales; aliases and dead letters have one.
        retention_hours: How long events are kept; dead letters seven times as long.
        record_days: How long topics are kept that are a record.
        max_message_bytes: Largest record.
        replication_factor: Copies of each record; -1 takes the broker's default.
        min_insync_replicas: Copies that must be written before a record is acknowledged; 0 takes the broker's default.
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
                min_insync_replicas,
            ),
            TopicSpec(
                topics.dead_letter(name),
                1,
                7 * retention_ms,
                False,
                max_message_bytes,
                replication_factor,
                min_insync_replicas,
            ),
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


def apply_topics(
    connection: KafkaConnection, specs: Sequence[TopicSpec], *, dry_run: bool = False
) -> list[TopicChange]:
    """Bring topics to what is wanted: create, add partitions, set what differs; nothing is ever taken away.

    Topics whose records are joined by partition number must come with equal numbers of partitions in ``specs``; this
    holds for ``standard_topics``. Where records have keys, those written after partitions were added may lie in others
    than those before: do it while nothing is in flight (``docs/operating.md``).

    Args:
        connection: How to reach Kafka.
        specs: What is wanted.
        dry_run: Tell what differs and change nothing.

    Returns:
        Every difference there was, in the order of ``specs``; those that are ``by_hand`` stand.

    Raises:
        UnavailableError: When no broker answers in time.
        BrokerRefusedError: When the broker does not let this client do it.
    """
    admin = None
    try:
        admin = KafkaAdminClient(**client_config(connection))
        existing = set(admin.list_topics())
        known = [spec.name for spec in specs if spec.name in existing]
        described = {str(topic["name"]): topic for topic in admin.describe_topics(known)} if known else {}
        configs = _configs(admin, known) if known else {}
        changes: list[TopicChange] = []
        for spec in specs:
            found = _differences(spec, described.get(spec.name), configs.get(spec.name, {}))
            if not dry_run:
                _carry_out(admin, spec, found)
            changes += found
    except (errors.KafkaError, OSError) as error:
        raise domain_error(error, "apply topics") from error
    finally:
        if admin is not None:
            admin.close()
    return changes


def _configs(admin: KafkaAdminClient, names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    answer = admin.describe_configs(asked, config_filter="all")
    return {str(name): values for name, values in answer.get("topic", {}).items()}


def _differences(spec: TopicSpec, described: Mapping[str, Any] | None, configs: Mapping[str, Any]) -> list[TopicChange]:
    if described is None:
        return [TopicChange(spec.name, TopicWork.CREATE, "", f"{spec.partitions} partitions")]
    found = []
    partitions = described["partitions"]
    if len(partitions) != spec.partitions:
        more = len(partitions) > spec.partitions
        work = TopicWork.MORE_PARTITIONS if more else TopicWork.PARTITIONS
        found.append(TopicChange(spec.name, work, f"{len(partitions)} partitions", f"{spec.partitions} partitions"))
    copies = {len(partition["replica_nodes"]) for partition in partitions}
    if spec.replication_factor > 0 and copies and copies != {spec.replication_factor}:
        told = f"{min(copies)} copies"
        found.append(TopicChange(spec.name, TopicWork.REPLICATION, told, f"{spec.replication_factor} copies"))
    for name, wanted in spec.configs().items():
        value = _config_value(configs, name)
        if value != wanted:
            found.append(TopicChange(spec.name, TopicWork.CONFIGS, f"{name}={value}", f"{name}={wanted}"))
    return found


def _config_value(configs: Mapping[str, Any], name: str) -> str:
    value = configs.get(name)
    if isinstance(value, Mapping):
        value = value.get("value")
    return "" if value is None else str(value)


def _carry_out(admin: KafkaAdminClient, spec: TopicSpec, changes: Sequence[TopicChange]) -> None:
    todo = {change.work for change in changes}
    if TopicWork.CREATE in todo:
        _create(admin, spec)
        LOG.info("created topic %s", spec.name)
    if TopicWork.PARTITIONS in todo:
        admin.create_partitions({spec.name: spec.partitions})
        LOG.info("topic %s has %s partitions now", spec.name, spec.partitions)
    differing = [change.after.split("=", 1) for change in changes if change.work is TopicWork.CONFIGS]
    if differing:
        # One by one and not as a whole: what else an operator has set on the topic stays.
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, spec.name, dict(differing))], incremental=True)
        LOG.info("topic %s: set %s", spec.name, ", ".join("=".join(pair) for pair in differing))


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
