"""Every metric of Sightline, declared once.

Names are ``sightline_<service>_<what>_<unit>``; labels are bounded (camera, product, model, reason), never part or
frame ids.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, Info, Metric
from prometheus_client.registry import Collector, CollectorRegistry

# Buckets around a line's cycle: from a millisecond to half a minute.
_LATENCY_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)

SERVICES: Final = ("ingest", "detector", "outcome", "explainer", "feedback", "trainer", "serving", "dashboard")


class _OfService(Collector):
    def __init__(self, registry: CollectorRegistry, service: str) -> None:
        self._registry = registry
        self._others = tuple(f"sightline_{name}_" for name in SERVICES if name != service)

    def collect(self) -> Iterator[Metric]:
        return (each for each in self._registry.collect() if not each.name.startswith(self._others))


def of_service(name: str, registry: CollectorRegistry = REGISTRY) -> Collector:
    """What one service tells: its own metrics and those of no service in particular.

    All are declared here, and one without labels is 0 from the start, in every process: told by the others too, the
    ``up`` of something would be 0 wherever it is nobody's business.

    Args:
        name: The service.
        registry: Where the metrics are.

    Returns:
        What ``generate_latest`` takes.
    """
    return _OfService(registry, name)


BUILD = Info("sightline_build", "Version of the running service.")

# ---- transport
GRPC_REFUSED_CALLS = Counter("sightline_grpc_refused_calls_total", "Calls that were not let in.", ["reason"])

TLS_CERTIFICATE_EXPIRY = Gauge(
    "sightline_tls_certificate_expiry_timestamp_seconds",
    "When a certificate that the service shows to others ends; 0 where its file holds none any more.",
    ["file"],
)

# ---- ingest
INGEST_FRAMES = Counter("sightline_ingest_frames_total", "Frames accepted from a source.", ["camera"])
INGEST_PUBLISHED = Counter("sightline_ingest_published_total", "Frames acknowledged by Kafka.", ["camera"])
INGEST_REFUSED = Counter(
    "sightline_ingest_refused_total", "Frames that broke a rule and were not taken.", ["camera", "reason"]
)
INGEST_DROPPED = Counter(
    "sightline_ingest_dropped_total", "Frames dropped by the drop-oldest policy of a full spool.", ["camera"]
)
INGEST_TRIGGERS = Counter(
    "sightline_ingest_triggers_total",
    "Parts that the line asked a picture of, by what became of it: taken, late, repeated, busy or lost.",
    ["camera", "outcome"],
)
INGEST_SPOOL_FRAMES = Gauge("sightline_ingest_spool_frames", "Frames on the spool's disk.")
INGEST_SPOOL_BYTES = Gauge("sightline_ingest_spool_bytes", "Bytes on the spool's disk.")
INGEST_SOURCE_UP = Gauge(
    "sightline_ingest_source_up", "1 while the camera delivers, 0 while it is retried.", ["camera"]
)
INGEST_LAST_FRAME = Gauge(
    "sightline_ingest_last_frame_timestamp_seconds",
    "When a camera's last frame was accepted; before the first one, since when it is waited for.",
    ["camera"],
)
INGEST_CAMERA = Gauge(
    "sightline_ingest_camera_info",
    "1 for each camera, with its line and what sets its pace: itself, a trigger, or a caller that pushes.",
    ["camera", "line", "product", "pace"],
)
INGEST_OUTAGE = Gauge(
    "sightline_ingest_outage", "1 while a camera's frames go to disk: Kafka or the object store is away.", ["camera"]
)
INGEST_SPOOL_LIMIT_BYTES = Gauge("sightline_ingest_spool_limit_bytes", "What all cameras' spools may hold.")
INGEST_SPOOL_OLDEST = Gauge(
    "sightline_ingest_spool_oldest_timestamp_seconds",
    "When the oldest frame on a camera's spool was captured; 0 while there is none.",
    ["camera"],
)
INGEST_PUBLISH_SECONDS = Histogram(
    "sightline_ingest_publish_seconds", "From accepted to acknowledged.", buckets=_LATENCY_S
)

# ---- detector
DETECTOR_FRAMES = Counter("sightline_detector_frames_total", "Records taken from frames.", ["camera"])
DETECTOR_VERDICTS = Counter(
    "sightline_detector_verdicts_total", "Verdicts acknowledged by Kafka.", ["camera", "product", "verdict", "model"]
)
DETECTOR_LATE = Counter("sightline_detector_late_total", "Verdicts decided after the cycle time.", ["camera"])
DETECTOR_DEAD_LETTERS = Counter(
    "sightline_detector_dead_letters_total", "Records sent to the dead-letter topic.", ["reason"]
)
DETECTOR_DEAD_LETTER_ALARM = Gauge(
    "sightline_detector_dead_letter_alarm", "1 while more records than the limit could not be used within the window."
)
DETECTOR_INSPECT = Counter("sightline_detector_inspect_total", "Calls of Inspect.", ["outcome"])
DETECTOR_REPLAYED = Counter(
    "sightline_detector_replayed_total", "Records whose id was handled already; not written again."
)
DETECTOR_CASES = Counter("sightline_detector_cases_total", "Cases acknowledged by Kafka.", ["kind"])
DETECTOR_STAGE_SECONDS = Histogram(
    "sightline_detector_stage_seconds",
    "Time by stage: queue, fetch, decode, infer, publish, total.",
    ["stage"],
    buckets=_LATENCY_S,
)
DETECTOR_BATCH_FRAMES = Histogram(
    "sightline_detector_batch_frames", "Frames in one request to Triton.", buckets=(1, 2, 4, 8, 16, 32, 64)
)
DETECTOR_IN_FLIGHT = Gauge("sightline_detector_in_flight_frames", "Frames taken and not yet committed.")
DETECTOR_LAG = Gauge("sightline_detector_lag_frames", "Records behind the end, over the assigned partitions.")
DETECTOR_PAUSED = Gauge("sightline_detector_paused", "1 while partitions are paused because a dependency is away.")
DETECTOR_DEPENDENCY_UP = Gauge(
    "sightline_detector_dependency_up", "0 while the dependency is waited for.", ["dependency"]
)
DETECTOR_RETRIES = Counter(
    "sightline_detector_retries_total", "Failures of a dependency that were waited out.", ["dependency"]
)
DETECTOR_LIVE_VERSION = Gauge("sightline_detector_live_version", "Model version that answers.", ["alias"])
DETECTOR_SWAPS = Counter("sightline_detector_swaps_total", "Changes of the version that answers.", ["alias"])
DETECTOR_LAST_SUCCESS = Gauge(
    "sightline_detector_last_success_timestamp_seconds", "When a verdict was last acknowledged."
)
DETECTOR_SCORE_PSI = Gauge(
    "sightline_detector_score_psi",
    "Population stability index of live scores from the version's good parts, less what chance gives on average; "
    "0.1 is a slight drift, 0.25 a large one.",
    ["alias", "model", "product"],
)
DETECTOR_EMBEDDING_MMD = Gauge(
    "sightline_detector_embedding_mmd",
    "Squared MMD of passed parts' embeddings from the version's good parts, as a multiple of what chance explains in "
    "999 of 1000 windows.",
    ["alias", "model", "product"],
)
DETECTOR_DRIFT_FRAMES = Gauge(
    "sightline_detector_drift_frames",
    "Frames, one of each part, that drift is looked for in.",
    ["alias", "model", "product"],
)
DETECTOR_SHADOW_VERSION = Gauge(
    "sightline_detector_shadow_version", "Model version that scores in the shadow; 0 while none does.", ["alias"]
)
DETECTOR_SHADOW_FRAMES = Counter(
    "sightline_detector_shadow_frames_total",
    "Frames drawn for the shadow by what came of them: answered, refused, failed, not_ready, over_rate, queue_full, "
    "no_image, ended, unwritten.",
    ["model", "outcome"],
)
DETECTOR_SHADOW_VERDICTS = Counter(
    "sightline_detector_shadow_verdicts_total",
    "Verdicts of the shadow acknowledged by Kafka, with the live one of the same frame.",
    ["model", "live", "shadow"],
)
DETECTOR_SHADOW_INFER_SECONDS = Histogram(
    "sightline_detector_shadow_infer_seconds", "From request to answer of the shadow.", buckets=_LATENCY_S
)
DETECTOR_SHADOW_WAITING = Gauge("sightline_detector_shadow_waiting_frames", "Frames that wait for the shadow.")

# ---- outcome
OUTCOME_RECORDS = Counter(
    "sightline_outcome_records_total", "Arrivals and verdicts read: joined, undecodable.", ["what"]
)
OUTCOME_DEAD_LETTERS = Counter(
    "sightline_outcome_dead_letters_total", "Records sent to the dead-letter topic.", ["reason"]
)
OUTCOME_OUTCOMES = Counter(
    "sightline_outcome_outcomes_total",
    "Outcomes acknowledged by Kafka, later revisions included.",
    ["line", "product", "verdict", "reason"],
)
OUTCOME_REVISIONS = Counter(
    "sightline_outcome_revisions_total", "Outcomes that superseded a part's answer because a view came late.", ["line"]
)
OUTCOME_LATE = Counter("sightline_outcome_late_total", "Parts whose answer was decided after the deadline.", ["line"])
OUTCOME_SECONDS = Histogram(
    "sightline_outcome_seconds",
    "From a part's first capture or trigger until its answer was decided.",
    ["line"],
    buckets=_LATENCY_S,
)
OUTCOME_OPEN_PARTS = Gauge("sightline_outcome_open_parts", "Parts that wait for views.")
OUTCOME_LAG = Gauge("sightline_outcome_lag_records", "Records behind the end, over the assigned partitions.")
OUTCOME_CLOCK_SKEW = Counter(
    "sightline_outcome_clock_skew_total", "Arrivals whose camera's clock was ahead by more than may be.", ["line"]
)
OUTCOME_CONNECTION_UP = Gauge(
    "sightline_outcome_connection_up",
    "1 while a line's connection delivers, or its PLC's heart beats.",
    ["line", "connection"],
)
OUTCOME_WAITING = Gauge(
    "sightline_outcome_waiting", "Outcomes and events that a connection has not delivered.", ["line", "connection"]
)
OUTCOME_OLDEST_SECONDS = Gauge(
    "sightline_outcome_oldest_waiting_seconds", "Age of the oldest of them.", ["line", "connection"]
)
OUTCOME_DELIVERED = Counter(
    "sightline_outcome_delivered_total",
    "Outcomes and events by what came of them: delivered, refused, too_old.",
    ["line", "connection", "what"],
)
OUTCOME_ANSWERED_SECONDS = Histogram(
    "sightline_outcome_answered_seconds",
    "From a part's trigger or first capture until the line had its answer.",
    ["line", "connection"],
    buckets=_LATENCY_S,
)
OUTCOME_LINE_EVENTS = Counter("sightline_outcome_line_events_total", "Line events by kind.", ["line", "kind"])
OUTCOME_ALARMS = Gauge("sightline_outcome_standing_alarms", "Alarms that nobody has acknowledged.", ["line", "light"])
OUTCOME_LIGHT = Gauge("sightline_outcome_light", "The stack light: 1 green, 2 amber, 3 red.", ["line"])

# ---- explainer
_EXPLANATION_S = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0)
EXPLAINER_CASES = Counter("sightline_explainer_cases_total", "Explained cases acknowledged by Kafka.", ["kind"])
EXPLAINER_EXPLANATIONS = Counter(
    "sightline_explainer_explanations_total", "Explanations by how they ended.", ["method", "status"]
)
EXPLAINER_FAILURES = Counter(
    "sightline_explainer_failures_total", "Explanations without a map, by reason.", ["method", "reason"]
)
EXPLAINER_GRADES = Counter("sightline_explainer_grades_total", "Maps by grade.", ["method", "grade"])
EXPLAINER_SECONDS = Histogram(
    "sightline_explainer_seconds", "From the request to the last answer.", ["method"], buckets=_EXPLANATION_S
)
EXPLAINER_PASSES = Histogram(
    "sightline_explainer_passes",
    "Forward passes of a map.",
    ["method"],
    buckets=(1, 10, 50, 100, 200, 400, 700, 1_000, 2_000, 8_000),
)
EXPLAINER_AGE_SECONDS = Histogram(
    "sightline_explainer_age_seconds",
    "From the verdict to the acknowledged explanation.",
    buckets=(0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 900.0),
)
EXPLAINER_LEVEL = Counter(
    "sightline_explainer_level_total", "Cases by what the backlog left time for: full, fast, none.", ["level"]
)
EXPLAINER_BACKLOG = Gauge("sightline_explainer_backlog_cases", "Cases that wait, here and in Kafka.")
EXPLAINER_LAG = Gauge("sightline_explainer_lag_cases", "Records behind the end, over the assigned partitions.")
EXPLAINER_IN_FLIGHT = Gauge("sightline_explainer_in_flight_cases", "Cases taken and not yet settled.")
EXPLAINER_PAUSED = Gauge("sightline_explainer_paused", "1 while partitions are paused.")
EXPLAINER_DEPENDENCY_UP = Gauge(
    "sightline_explainer_dependency_up", "0 while the dependency is waited for.", ["dependency"]
)
EXPLAINER_RETRIES = Counter(
    "sightline_explainer_retries_total", "Failures of a dependency that were waited out.", ["dependency"]
)
EXPLAINER_REPLAYED = Counter(
    "sightline_explainer_replayed_total", "Cases whose id was handled already; not written again."
)
EXPLAINER_DEAD_LETTERS = Counter(
    "sightline_explainer_dead_letters_total", "Records sent to the dead-letter topic.", ["reason"]
)
EXPLAINER_CALIBRATED = Gauge(
    "sightline_explainer_calibrated", "1 where the colours of a model and method are calibrated.", ["model", "method"]
)
EXPLAINER_CALLS = Counter("sightline_explainer_calls_total", "Calls of Explain.", ["outcome"])
EXPLAINER_LAST_SUCCESS = Gauge(
    "sightline_explainer_last_success_timestamp_seconds", "When an explained case was last acknowledged."
)

# ---- feedback
FEEDBACK_CASES = Counter(
    "sightline_feedback_cases_total", "Explained cases put on record and into the index.", ["kind"]
)
FEEDBACK_CASE_SECONDS = Histogram(
    "sightline_feedback_case_seconds",
    "From the explanation to the place in the queue.",
    buckets=(0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0, 300.0, 900.0),
)
FEEDBACK_DEAD_LETTERS = Counter(
    "sightline_feedback_dead_letters_total", "Records sent to the dead-letter topic.", ["reason"]
)
FEEDBACK_RETRIES = Counter(
    "sightline_feedback_retries_total", "Failures of the object store or the index that were waited out.", ["reason"]
)
FEEDBACK_LAG = Gauge("sightline_feedback_lag_cases", "Records behind the end, over the assigned partitions.")
FEEDBACK_IN_FLIGHT = Gauge("sightline_feedback_in_flight_cases", "Cases taken and not yet settled.")
FEEDBACK_PAUSED = Gauge("sightline_feedback_paused", "1 while partitions are paused.")
FEEDBACK_DEPENDENCY_UP = Gauge(
    "sightline_feedback_dependency_up", "0 while the dependency is waited for: cases, reviews, counts.", ["dependency"]
)
FEEDBACK_LAST_SUCCESS = Gauge(
    "sightline_feedback_last_success_timestamp_seconds", "When a case last came into the index."
)
FEEDBACK_REVIEWS = Counter("sightline_feedback_reviews_total", "Reviews put on record.", ["action"])
FEEDBACK_REVIEW_SECONDS = Histogram(
    "sightline_feedback_review_seconds",
    "From a checked review to its acknowledgement.",
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 10.0),
)
FEEDBACK_OPEN_CASES = Gauge("sightline_feedback_open_cases", "Cases that wait for a person.", ["line"])
FEEDBACK_OLDEST_OPEN = Gauge(
    "sightline_feedback_oldest_open_timestamp_seconds",
    "When the part of the oldest case that waits for a person was captured.",
    ["line"],
)
FEEDBACK_AUDITED = Gauge(
    "sightline_feedback_audited_cases",
    "Passed parts of the audit sample that people settled, over the last days (measures.audit_days).",
    ["line"],
)
FEEDBACK_AUDIT_ESCAPES = Gauge("sightline_feedback_audit_escape_cases", "Of those: found defective.", ["line"])
FEEDBACK_ESCAPE = Gauge(
    "sightline_feedback_escape_ratio",
    "Share of the passed parts that is defective, estimated from those.",
    ["line"],
)
FEEDBACK_ESCAPE_LOW = Gauge(
    "sightline_feedback_escape_low_ratio", "Lower end of the 95 % interval of that share.", ["line"]
)
FEEDBACK_UNPUBLISHED = Gauge(
    "sightline_feedback_unpublished", "Reviews on record that wait for Kafka, up to a batch of 200."
)
FEEDBACK_PUBLISHED = Counter("sightline_feedback_published_total", "Reviews acknowledged by Kafka.")
FEEDBACK_EXPORTS = Counter("sightline_feedback_exports_total", "Exports, by how they ended.", ["layout", "outcome"])
FEEDBACK_EXPORTED_CASES = Counter("sightline_feedback_exported_cases_total", "Cases put into archives.")
FEEDBACK_EMBEDDINGS = Counter(
    "sightline_feedback_embeddings_total",
    "Embeddings taken in, by what became of them: kept, forgotten later, expired on arrival, or the flaw they have.",
    ["outcome"],
)
FEEDBACK_NEIGHBOURS = Counter(
    "sightline_feedback_neighbours_total",
    "Neighbours of wrong verdicts brought into a queue, by relation; picture_gone: passed over.",
    ["relation"],
)
FEEDBACK_NEIGHBOUR_SECONDS = Histogram(
    "sightline_feedback_neighbour_seconds",
    "Looking for the neighbours of a case.",
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0),
)
FEEDBACK_CALLS = Counter("sightline_feedback_calls_total", "gRPC calls, by how they ended.", ["call", "outcome"])
FEEDBACK_COMPARED = Counter(
    "sightline_feedback_compared_total",
    "Parts and frames inspected again after a new model, by how it went.",
    ["outcome"],
)
FEEDBACK_COMPARE_WAITING = Gauge(
    "sightline_feedback_compare_waiting", "Parts and frames that are still to be inspected again after a new model."
)

FEEDBACK_VERDICTS = Counter(
    "sightline_feedback_verdicts_total", "Verdicts for the statistics: counted, repeated or unreadable.", ["outcome"]
)
FEEDBACK_VERDICTS_LAG = Gauge(
    "sightline_feedback_lag_verdicts", "Verdicts that are not counted yet, over the assigned partitions."
)

# ---- trainer
TRAINER_RUNS = Counter("sightline_trainer_runs_total", "Runs that have ended, by outcome.", ["outcome"])
TRAINER_GATE_FAILURES = Counter(
    "sightline_trainer_gate_failures_total", "Gates that candidates broke.", ["alias", "gate"]
)
TRAINER_STAGE = Gauge("sightline_trainer_stage", "1 for the stage that the run of an alias is in.", ["alias", "stage"])
TRAINER_STAGE_SECONDS = Histogram(
    "sightline_trainer_stage_seconds",
    "Time that runs spent in a stage.",
    ["stage"],
    buckets=(1, 5, 15, 60, 180, 600, 1_800, 3_600, 14_400, 86_400),
)
TRAINER_NEW_REVIEWS = Gauge(
    "sightline_trainer_new_reviews", "Answers that came or were taken back since the last run.", ["alias"]
)
TRAINER_PROMOTIONS = Counter("sightline_trainer_promotions_total", "Candidates that went live.", ["alias"])
TRAINER_ROLLBACKS = Counter(
    "sightline_trainer_rollbacks_total",
    "Versions that the watch took back, by the bound that was broken.",
    ["alias", "reason"],
)
TRAINER_REVIEWS = Counter(
    "sightline_trainer_reviews_total", "Records of the reviews topic: counted, or unreadable.", ["outcome"]
)
TRAINER_LAG = Gauge("sightline_trainer_lag_reviews", "Reviews that are not counted yet, over the assigned partitions.")
TRAINER_CALLS = Counter("sightline_trainer_calls_total", "gRPC calls, by how they ended.", ["call", "outcome"])
TRAINER_DEPENDENCY_UP = Gauge(
    "sightline_trainer_dependency_up", "0 while the dependency is waited for: record.", ["dependency"]
)

# ---- serving
SERVING_VERSION_STATE = Gauge(
    "sightline_serving_version_state", "1 for the state that a model version is in.", ["model", "state"]
)
SERVING_LOAD_SECONDS = Histogram(
    "sightline_serving_load_seconds", "From wanted to warm.", buckets=(0.5, 1, 2, 5, 10, 20, 60, 180, 600)
)
SERVING_LOAD_FAILURES = Counter(
    "sightline_serving_load_failures_total", "Model versions that could not be brought up.", ["model"]
)
SERVING_ENGINE = Gauge(
    "sightline_serving_engine", "Devices on which an engine serves a model version.", ["model", "engine", "precision"]
)
SERVING_ENGINE_RATE = Gauge(
    "sightline_serving_engine_images_per_second",
    "Measured of an engine when the version was first loaded; 0 where it does not run.",
    ["model", "engine", "precision"],
)
SERVING_ENGINE_AGREEMENT = Gauge(
    "sightline_serving_engine_verdicts_equal_ratio",
    "Share of an engine's verdicts that were those of torch in float32 when the version was first loaded.",
    ["model", "engine", "precision"],
)
SERVING_ENGINE_FALLBACKS = Counter(
    "sightline_serving_engine_fallbacks_total",
    "Times a version came up on torch since the engine that was asked for cannot run.",
    ["model"],
)
SERVING_EXPLAINER_UP = Gauge(
    "sightline_serving_explainer_up",
    "1 while the model that explains a version is loaded, 0 while it should be.",
    ["model"],
)
SERVING_EXPLAINER_FAILURES = Counter(
    "sightline_serving_explainer_failures_total", "Loads and unloads of explaining models that failed.", ["model"]
)
SERVING_TRITON_UP = Gauge("sightline_serving_triton_up", "1 while this agent's Triton answers.")
SERVING_TRITON_RESTARTS = Counter(
    "sightline_serving_triton_restarts_total", "Times this agent's Triton came back empty."
)

# ---- dashboard
DASHBOARD_CLIENTS = Gauge("sightline_dashboard_clients", "Browsers connected to the live stream.")
DASHBOARD_EVENTS = Counter("sightline_dashboard_events_total", "Verdicts read from Kafka.")
DASHBOARD_UNDECODABLE = Counter("sightline_dashboard_undecodable_total", "Records that could not be read.")
DASHBOARD_PICTURES = Counter(
    "sightline_dashboard_pictures_total", "Pictures asked for by browsers, by how it went.", ["outcome"]
)
DASHBOARD_REFUSED_CONNECTIONS = Counter(
    "sightline_dashboard_refused_connections_total",
    "Connections ended because there were too many (total, address) or no whole request came in time (slow).",
    ["why"],
)
DASHBOARD_SIGN_INS = Counter(
    "sightline_dashboard_sign_ins_total", "Attempts to sign in to the dashboard, by how they went.", ["outcome"]
)
DASHBOARD_KAFKA_UP = Gauge("sightline_dashboard_kafka_up", "1 while verdicts can be read.")
DASHBOARD_EXPLAINED = Counter("sightline_dashboard_explained_total", "Explained cases read from Kafka.")
DASHBOARD_EXPLAINED_UP = Gauge("sightline_dashboard_explained_up", "1 while explained cases can be read.")
DASHBOARD_OUTCOMES = Counter("sightline_dashboard_outcomes_total", "Outcomes and line events read from Kafka.")
DASHBOARD_OUTCOMES_UP = Gauge("sightline_dashboard_outcomes_up", "1 while outcomes and line events can be read.")
DASHBOARD_EXPLAIN = Counter(
    "sightline_dashboard_explain_total", "Maps asked for by browsers, by how it went.", ["outcome"]
)
