"""How much of everything a plant needs: from lines, cameras, rates and bytes to partitions, replicas, disks and GPUs.

Every coefficient is a named constant with where it was measured (docs/sizing.md has the table). Those of processors
come from machines with two cores and no GPU, most of them with other work beside; where a figure is a choice and not a
measurement its comment says so. Nothing here says how many images a GPU scores: that must be given.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, fields
from typing import Final

from services.core import topics
from services.core.errors import InvalidInputError

# ---- processor time, docs/benchmarks.md

#: Detector, of each frame: batching, deciding, encoding, writing .20, producer .09, polling .06, gRPC .06 (`pipeline`).
DETECT_MS: Final = 0.41
#: Detector: decoding and preparing a JPEG of 320 x 320 px (`pipeline`: 0.82); taken as proportional to pixels.
PREPARE_MS_PER_PIXEL: Final = 0.82 / (320 * 320)
#: Detector: the consumer's network for 30 KB (`pipeline`: .09); taken as proportional to bytes.
FETCH_MS_PER_BYTE: Final = 0.09 / 30_000
#: Bytes of a pixel in the same JPEGs: 30 KB of 320 x 320 px.
BYTES_PER_PIXEL: Final = 30_000 / (320 * 320)
#: Ingest, inline: 0.28 ms at 15 KB and 2.1 ms at 200 KB (`ingest`, replay).
INGEST_INLINE: Final = ((15_000, 0.28), (200_000, 2.1))
#: Ingest, by reference: 2.0 ms at 15 KB, 2.7 at 200 KB, 4.7 at 1 MB (`ingest`, replay).
INGEST_REFERENCE: Final = ((15_000, 2.0), (200_000, 2.7), (1_000_000, 4.7))
#: Outcome: 0.44 of a core at 1 000 parts a second of two views (`outcome`).
OUTCOME_MS_PER_PART: Final = 0.44
#: Dashboard: every replica reads every verdict (docs/dashboard.md, `dashboard`).
DASHBOARD_MS_PER_VERDICT: Final = 0.29
#: Feedback: cases a second into record and index (`feedback_memory`, beside much other work).
FEEDBACK_CASES_PER_S: Final = 34.0
#: Feedback: answers a second of four people (`submit_review`).
FEEDBACK_ANSWERS_PER_S: Final = 61.0
#: A forward pass in Triton on a CPU, OpenVINO, by network (`pipeline`: 8.32 ms; 589/s on two cores).
NETWORK_MS: Final = {"resnet18": 8.32, "efficientnet-lite0": 2_000 / 589}
#: A pass of an explanation on a CPU: 6.98 s for 1 000 (`explain`, EfficientNet-Lite0, float32, one thread).
EXPLAIN_MS_PER_PASS: Final = 6.98

# ---- bytes of events, measured from the messages (docs/sizing.md)

ARRIVAL_BYTES: Final = 92
FRAME_BYTES: Final = 180
"""Beside the image. Taken as large as an inspection's, which was measured."""
VERDICT_BYTES: Final = 180
CASE_BYTES: Final = 2_955
EMBEDDING_BYTES: Final = 2_746
EXPLAINED_BYTES: Final = 30_903
OUTCOME_BYTES: Final = 186
REVIEW_BYTES: Final = 165
CASE_OBJECT_BYTES: Final = 42_302
REVIEW_OBJECT_BYTES: Final = 439
#: Rows of the case index in PostgreSQL with their indexes (`case_index --postgres`); SQLite takes 0.9 KB.
INDEX_BYTES_PER_CASE: Final = 1_500
#: A row of the embeddings: what the topic's record holds, as good as nothing is packed.
INDEX_BYTES_PER_EMBEDDING: Final = EMBEDDING_BYTES
#: Feedback keeps so many of one model version (`embeddings.max_per_version`).
EMBEDDINGS_PER_VERSION: Final = 100_000

# ---- memory in MB, the highest that was measured

MEMORY_MB: Final = {
    "ingest": 169,  # `soak`, four drawn cameras
    "detector": 174,  # `pipeline`
    "outcome": 174,  # `outcome`
    "explainer": 85,  # `soak` with explanations
    "feedback": 229,  # `feedback_memory`
    "serving": 122,  # `soak`
    "dashboard": 198,  # docs/dashboard.md
    "trainer": 250,  # not measured: idle it is as small as feedback; its trainings are processes of their own
    "triton": 900,  # `soak`: a model 309 MB, Triton 45, the explaining model 470, rounded up
}
#: Outcome: what it remembers of a part, and for how long (`outcome`).
OUTCOME_BYTES_PER_PART: Final = 1_700
OUTCOME_REMEMBERS_S: Final = 60.0

# ---- choices, not measurements

#: Share of what a process or a link can do that is planned with.
UTILISATION: Final = 0.6
#: Limit over request of memory, and the least limit: what was measured had images of 320 px, larger ones take more.
MEMORY_FACTOR: Final = 2.0
LEAST_LIMIT_MB: Final = 1_000
#: Partitions a replica has at the start, so that replicas may double without new partitions.
PARTITIONS_PER_REPLICA: Final = 2
#: Most of one partition.
PARTITION_BYTES_PER_S: Final = 10_000_000
FEWEST_PARTITIONS: Final = 4
#: More brokers than this for images alone are told.
FEW_BROKERS: Final = 12
#: Cores of a Triton without a GPU.
TRITON_CORES: Final = 8
SECONDS_PER_YEAR: Final = 365 * 86_400


@dataclass(frozen=True, slots=True)
class Plant:
    """What there is to inspect, and what is to be kept."""

    lines: int = 1
    cameras_per_line: int = 1
    frames_per_s: float = 10.0
    """Of one camera."""
    image_bytes: int = 200_000
    image_pixels: int = 0
    """0: as many as a JPEG of so many bytes usually has."""
    views_per_part: int = 0
    """0: every camera of a line sees each part once."""
    cycle_time_ms: int = 1_000
    flagged_share: float = 0.01
    """Of frames that are FAIL or REVIEW."""
    audit_share: float = 0.02
    """Of the others that become cases (``audit_share`` of the detector)."""
    embedding_share: float = 1.0
    embeddings_keep_hours: float = 24.0
    passes_per_case: int = 405
    """Of a whole explanation: the default method 400, the fast one 5."""
    answers_per_hour: float = 200.0
    retention_hours: float = 24.0
    """Of every topic that is no record (``topics.retention_hours``)."""
    record_days: float = 400.0
    replication: int = 3
    inline_limit_bytes: int = 900_000
    network: str = "efficientnet-lite0"
    gpu_images_per_s: float = 0.0
    """Of one GPU with this network, as you have measured it; 0: processors do it."""
    peak_factor: float = 1.5
    """The busiest minutes over the average, and room to catch up after an outage."""
    spare_replicas: int = 0
    """Of each service that may have several, beyond what the load asks for."""
    broker_disk_bytes: float = 4e12
    broker_network_bytes_per_s: float = 1.25e9

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            InvalidInputError: Naming the value that breaks a rule.
        """
        whole = ("lines", "cameras_per_line", "image_bytes", "cycle_time_ms", "passes_per_case", "replication")
        more = ("frames_per_s", "retention_hours", "record_days", "broker_disk_bytes")
        for name in (*whole, *more, "broker_network_bytes_per_s"):
            if not getattr(self, name) > 0:
                raise InvalidInputError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("flagged_share", "audit_share", "embedding_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidInputError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
        if not self.peak_factor >= 1:
            raise InvalidInputError(f"peak_factor must be at least 1, got {self.peak_factor}")
        if self.network not in NETWORK_MS:
            raise InvalidInputError(f"network must be one of {', '.join(NETWORK_MS)}, got {self.network!r}")
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, (int, float)) and not (math.isfinite(value) and value >= 0):
                raise InvalidInputError(f"{each.name} must be a finite number from 0 on, got {value}")

    @property
    def rate(self) -> float:
        """Frames a second of all cameras."""
        return self.lines * self.cameras_per_line * self.frames_per_s

    @property
    def parts_per_s(self) -> float:
        """Parts a second of all lines."""
        return self.rate / (self.views_per_part or self.cameras_per_line)

    @property
    def cases_per_s(self) -> float:
        """Frames a second that are worth a person's look."""
        return self.rate * (self.flagged_share + (1 - self.flagged_share) * self.audit_share)

    @property
    def pixels(self) -> float:
        """Of one image."""
        return self.image_pixels or self.image_bytes / BYTES_PER_PIXEL

    @property
    def inline(self) -> bool:
        """Whether an image travels in its record."""
        return self.image_bytes + EXPLAINED_BYTES <= self.inline_limit_bytes


@dataclass(frozen=True, slots=True)
class ServiceSize:
    """One service."""

    name: str
    replicas: int
    cores: float
    """Of one replica, at the peak."""
    memory_mb: int
    """Request of one replica."""
    why: str

    @property
    def memory_limit_mb(self) -> int:
        """Limit of one replica."""
        return max(LEAST_LIMIT_MB, math.ceil(self.memory_mb * MEMORY_FACTOR))


@dataclass(frozen=True, slots=True)
class TopicSize:
    """One topic."""

    name: str
    partitions: int
    """That it needs by itself."""
    records_per_s: float
    bytes_per_s: float
    retention_hours: float
    disk_bytes: float
    """On all brokers, copies included."""
    readers: int
    """How often each record is read."""


@dataclass(frozen=True, slots=True)
class Size:
    """What a plant needs."""

    services: tuple[ServiceSize, ...]
    topics: tuple[TopicSize, ...]
    partitions: int
    """Of every topic that scales: ``topics.partitions``, one number for all."""
    brokers: int
    disk_bytes_per_broker: float
    network_in_bytes_per_s: float
    """Of one broker, copies from the others included."""
    network_out_bytes_per_s: float
    """Of one broker, copies to the others included."""
    gpus: float
    """How many GPUs' work there is; 0 where processors do it."""
    store_bytes_per_day: float
    """That stay: the record."""
    store_expiring_bytes: float
    """That lie there at any time and expire: images by reference."""
    store_puts_per_s: float
    store_gets_per_s: float
    index_bytes_per_year: float
    embeddings_bytes: float
    """In the index's database at any time, of one model version."""
    needs_postgres: bool
    warnings: tuple[str, ...]

    def service(self, name: str) -> ServiceSize:
        """One service by name."""
        return next(one for one in self.services if one.name == name)

    def topic(self, name: str) -> TopicSize:
        """One topic by name."""
        return next(one for one in self.topics if one.name == name)


def size(plant: Plant) -> Size:
    """Say what a plant needs.

    Args:
        plant: What there is to inspect.
    """
    services, gpus = _services(plant)
    by_name = {one.name: one for one in services}
    sized = _topics(plant, by_name)
    brokers, disk, network_in, network_out = _brokers(plant, sized)
    store = _store(plant)
    return Size(
        services=services,
        topics=sized,
        # One number for all: arrivals and verdicts must have as many anyway, since they are joined by partition.
        partitions=max(one.partitions for one in sized if one.name not in topics.COMPACTED),
        brokers=brokers,
        disk_bytes_per_broker=disk,
        network_in_bytes_per_s=network_in,
        network_out_bytes_per_s=network_out,
        gpus=gpus,
        store_bytes_per_day=store[0],
        store_expiring_bytes=store[1],
        store_puts_per_s=store[2],
        store_gets_per_s=store[3],
        index_bytes_per_year=plant.cases_per_s * SECONDS_PER_YEAR * INDEX_BYTES_PER_CASE,
        embeddings_bytes=_embeddings(plant) * INDEX_BYTES_PER_EMBEDDING,
        needs_postgres=by_name["feedback"].replicas > 1 or by_name["dashboard"].replicas > 1,
        warnings=_warnings(plant),
    )


# ---- services


def _services(plant: Plant) -> tuple[tuple[ServiceSize, ...], float]:
    peak = plant.rate * plant.peak_factor
    spare = plant.spare_replicas
    outcome_ms = OUTCOME_MS_PER_PART * plant.parts_per_s / plant.rate
    cameras = plant.lines * plant.cameras_per_line
    found = [
        _cpu_bound("ingest", peak, _ingest_ms(plant), 0, most=cameras),
        _cpu_bound("detector", peak, detect_ms(plant), spare),
        _cpu_bound("outcome", peak, outcome_ms, spare),
    ]
    remembered = plant.parts_per_s * (OUTCOME_REMEMBERS_S + plant.cycle_time_ms / 1_000) * OUTCOME_BYTES_PER_PART / 1e6
    extra_mb = math.ceil(remembered / found[-1].replicas)
    found[-1] = ServiceSize(
        "outcome", found[-1].replicas, found[-1].cores, MEMORY_MB["outcome"] + extra_mb, found[-1].why
    )
    triton, gpus = _triton(plant, peak, spare)
    explainers = ServiceSize(
        "explainer",
        triton.replicas,
        0.5,
        MEMORY_MB["explainer"],
        "as many as Tritons: its own work was not measured apart from theirs",
    )
    cases = plant.cases_per_s * plant.peak_factor / FEEDBACK_CASES_PER_S
    answers = plant.answers_per_hour / 3_600 / FEEDBACK_ANSWERS_PER_S
    keepers = max(1, math.ceil((cases + answers) / UTILISATION)) + spare
    feedback = ServiceSize(
        "feedback",
        keepers,
        _cores((cases + answers) / keepers),
        MEMORY_MB["feedback"] + math.ceil(_embeddings(plant) * 5_160 / 1e6),
        f"{FEEDBACK_CASES_PER_S:g} cases/s and {FEEDBACK_ANSWERS_PER_S:g} answers/s each",
    )
    seen = peak * DASHBOARD_MS_PER_VERDICT / 1_000
    dashboard = ServiceSize(
        "dashboard", 1 + spare, _cores(seen), MEMORY_MB["dashboard"], "each reads every verdict; more only for people"
    )
    trainer = ServiceSize("trainer", 1, 1.0, MEMORY_MB["trainer"], "one works on an alias at a time; not measured")
    serving = ServiceSize("serving", triton.replicas, 0.1, MEMORY_MB["serving"], "one beside each Triton")
    return (*found, explainers, feedback, trainer, dashboard, serving, triton), gpus


def detect_ms(plant: Plant) -> float:
    """Processor time of the detector for one frame, ms."""
    fetched = plant.image_bytes if plant.inline else 0
    return DETECT_MS + plant.pixels * PREPARE_MS_PER_PIXEL + fetched * FETCH_MS_PER_BYTE


def _ingest_ms(plant: Plant) -> float:
    return _between(INGEST_INLINE if plant.inline else INGEST_REFERENCE, plant.image_bytes)


def _between(points: tuple[tuple[int, float], ...], at: float) -> float:
    """Straight lines between what was measured, the last one goes on; below the first, the first."""
    if at <= points[0][0]:
        return points[0][1]
    (x0, y0), (x1, y1) = next(
        (pair for pair in itertools.pairwise(points) if at <= pair[1][0]), (points[-2], points[-1])
    )
    return y0 + (at - x0) * (y1 - y0) / (x1 - x0)


def _cpu_bound(name: str, peak: float, ms: float, spare: int, most: int = 0) -> ServiceSize:
    """A service whose process has one core."""
    needed = max(1, math.ceil(peak * ms / 1_000 / UTILISATION))
    replicas = (min(needed, most) if most else needed) + spare
    return ServiceSize(
        name, replicas, _cores(peak * ms / 1_000 / replicas), MEMORY_MB[name], f"{ms:.2f} ms of processor a frame"
    )


def _cores(used: float) -> float:
    """What to ask for, in tenths, with room."""
    return max(0.1, math.ceil(used / UTILISATION * 10) / 10)


def _triton(plant: Plant, peak: float, spare: int) -> tuple[ServiceSize, float]:
    # Explanations may wait a while, so they are planned with their average.
    passes = plant.cases_per_s * plant.passes_per_case
    if plant.gpu_images_per_s:
        gpus = (peak + passes) / plant.gpu_images_per_s / UTILISATION
        why = f"a GPU each of {plant.gpu_images_per_s:g} images/s, as given"
        return ServiceSize("triton", max(1, math.ceil(gpus)) + spare, 2.0, MEMORY_MB["triton"], why), gpus
    cores = (peak * NETWORK_MS[plant.network] + passes * EXPLAIN_MS_PER_PASS) / 1_000 / UTILISATION
    replicas = max(1, math.ceil(cores / TRITON_CORES)) + spare
    why = f"processors alone: {cores:.1f} cores, of them {passes * EXPLAIN_MS_PER_PASS / 1e3 / UTILISATION:.1f} explain"
    return ServiceSize("triton", replicas, _tenths(cores / replicas), MEMORY_MB["triton"], why), 0.0


def _tenths(cores: float) -> float:
    return max(0.1, math.ceil(cores * 10) / 10)


def _embeddings(plant: Plant) -> float:
    kept = plant.rate * plant.embedding_share * plant.embeddings_keep_hours * 3_600
    return min(kept, EMBEDDINGS_PER_VERSION)


# ---- topics and brokers


def _topics(plant: Plant, services: dict[str, ServiceSize]) -> tuple[TopicSize, ...]:
    image = plant.image_bytes if plant.inline else 0
    dashboards = services["dashboard"].replicas
    embedded = max(0.0, plant.rate - plant.cases_per_s) * plant.embedding_share
    # Records a second, bytes of each, replicas that share its partitions, readers of each record.
    rows: dict[str, tuple[float, float, int, int]] = {
        topics.ARRIVALS: (plant.rate, ARRIVAL_BYTES, services["outcome"].replicas, 1),
        topics.FRAMES: (plant.rate, FRAME_BYTES + image, services["detector"].replicas, 1),
        topics.VERDICTS: (plant.rate, VERDICT_BYTES, services["outcome"].replicas, 2 + dashboards),
        topics.CASES: (plant.cases_per_s, CASE_BYTES + image, services["explainer"].replicas, 1),
        topics.EMBEDDINGS: (embedded, EMBEDDING_BYTES, services["feedback"].replicas, 1),
        # As if there were a version in the shadow all the time.
        topics.SHADOW: (plant.rate, VERDICT_BYTES, 1, 1),
        topics.EXPLAINED: (plant.cases_per_s, EXPLAINED_BYTES + image, services["feedback"].replicas, 1 + dashboards),
        topics.REVIEWS: (plant.answers_per_hour / 3_600, REVIEW_BYTES, 1, 1),
        topics.MODELS: (0.0, 0.0, 1, 1),
        topics.OUTCOMES: (plant.parts_per_s, OUTCOME_BYTES, 1, 1 + dashboards),
        # Not measured: taken as two events of an outcome's size for each part.
        topics.LINE_EVENTS: (2 * plant.parts_per_s, OUTCOME_BYTES, 1, dashboards),
    }
    peak = plant.peak_factor
    found = []
    for name, (per_s, each, replicas, readers) in rows.items():
        hours = plant.record_days * 24 if name in topics.RECORDS else plant.retention_hours
        by_bytes = math.ceil(per_s * each * peak / PARTITION_BYTES_PER_S)
        partitions = (
            1 if name in topics.COMPACTED else max(FEWEST_PARTITIONS, PARTITIONS_PER_REPLICA * replicas, by_bytes)
        )
        disk = per_s * each * hours * 3_600 * plant.replication
        found.append(TopicSize(name, partitions, per_s, per_s * each, hours, disk, readers))
    return tuple(found)


def _brokers(plant: Plant, sized: tuple[TopicSize, ...]) -> tuple[int, float, float, float]:
    disk = sum(one.disk_bytes for one in sized)
    written = sum(one.bytes_per_s for one in sized) * plant.peak_factor
    into = written * plant.replication
    out = sum(one.bytes_per_s * one.readers for one in sized) * plant.peak_factor + written * (plant.replication - 1)
    brokers = max(
        plant.replication,
        math.ceil(disk / (plant.broker_disk_bytes * UTILISATION)),
        math.ceil(max(into, out) / (plant.broker_network_bytes_per_s * UTILISATION)),
    )
    return brokers, disk / brokers, into / brokers, out / brokers


# ---- object store


def _store(plant: Plant) -> tuple[float, float, float, float]:
    answers = plant.answers_per_hour / 3_600
    kept = plant.cases_per_s * (plant.image_bytes + CASE_OBJECT_BYTES) + answers * REVIEW_OBJECT_BYTES
    by_reference = 0.0 if plant.inline else plant.rate
    # Images must outlive the records that name them.
    expiring = by_reference * plant.image_bytes * (plant.retention_hours + 1) * 3_600
    puts = (2 * plant.cases_per_s + answers + by_reference) * plant.peak_factor
    # The detector reads each image; explainer and feedback those of cases.
    gets = (by_reference + (0.0 if plant.inline else 2 * plant.cases_per_s)) * plant.peak_factor
    return kept * 86_400, expiring, puts, gets


def _warnings(plant: Plant) -> tuple[str, ...]:
    told = []
    verdicts = plant.rate * plant.peak_factor
    most = UTILISATION * 1_000 / DASHBOARD_MS_PER_VERDICT
    if verdicts > most:
        told.append(
            f"a dashboard reads every verdict and follows at most about {most:,.0f} of {verdicts:,.0f} a second: give "
            "groups of lines a broker and a dashboard of their own"
        )
    cameras = plant.lines * plant.cameras_per_line
    needed = math.ceil(verdicts * _ingest_ms(plant) / 1_000 / UTILISATION)
    if needed > cameras:
        told.append(f"one camera needs more than one core of ingest ({needed} processes for {cameras} cameras)")
    frames_bytes = plant.rate * plant.image_bytes * plant.retention_hours * 3_600 * plant.replication
    if plant.inline and frames_bytes > FEW_BROKERS * plant.broker_disk_bytes * UTILISATION:
        told.append(
            f"the images of {plant.retention_hours:g} hours take {frames_bytes / 1e12:,.0f} TB on the brokers: lower "
            "topics.retention_hours to the longest outage that is to be caught up with"
        )
    if not plant.gpu_images_per_s:
        told.append("no GPU is counted with: processors' figures are those of a machine with two cores")
    if plant.cases_per_s * 3_600 > 100 * max(1.0, plant.answers_per_hour):
        told.append(
            f"{plant.cases_per_s * 3_600:,.0f} cases an hour for {plant.answers_per_hour:,.0f} answers: most are never "
            "looked at, and each is explained and kept; lower audit_share or the share that is flagged"
        )
    return tuple(told)
