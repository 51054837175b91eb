"""The five dashboards: what is asked of Prometheus, in which unit, and where it becomes bad."""

# ruff: noqa: E501 - a query stays on one line, as Grafana shows it
from __future__ import annotations

from typing import Final

from grafana import Dashboard, Panel, Query, Variable

_LINE: Final = Variable("line", "label_values(sightline_ingest_camera_info, line)")
_CAMERA: Final = Variable("camera", 'label_values(sightline_ingest_camera_info{line=~"$line"}, camera)')
_MODEL: Final = Variable("model", "label_values(sightline_detector_verdicts_total, model)")
_GPU: Final = "a GPU"
_CLUSTER: Final = "the metrics of a Kubernetes cluster"
_DRIFT: Final = "a full window of frames scored by a model that was calibrated"
_TLS: Final = "certificates"

LINE: Final = Dashboard(
    "sightline-line",
    "Sightline: line",
    "What people at the line would ask: are parts inspected, answered in time, and told to the PLC?",
    [
        (
            "Now",
            [
                Panel(
                    "Parts answered",
                    "cps",
                    [Query('sum(line:sightline_parts:rate5m{line=~"$line"})', "parts/s")],
                    "Parts with a first answer, a second.",
                    kind="stat",
                    width=4,
                ),
                Panel(
                    "Late answers",
                    "percentunit",
                    [Query('max(line:sightline_answers_late:ratio5m{line=~"$line"})', "late")],
                    "Share of answers after their deadline; each is a REVIEW at the line.",
                    0.001,
                    0.01,
                    kind="stat",
                    width=4,
                ),
                Panel(
                    "Stack light",
                    "none",
                    [Query('max by (line) (sightline_outcome_light{line=~"$line"})', "{{line}}")],
                    "1 green, 2 amber, 3 red.",
                    2,
                    3,
                    kind="stat",
                    width=4,
                ),
                Panel(
                    "Standing alarms",
                    "none",
                    [Query('sum(sightline_outcome_standing_alarms{line=~"$line"})', "alarms")],
                    "Alarms that nobody has acknowledged.",
                    1,
                    5,
                    kind="stat",
                    width=4,
                ),
                Panel(
                    "Connections up",
                    "percentunit",
                    [
                        Query(
                            'min by (line, connection) (sightline_outcome_connection_up{line=~"$line"})',
                            "{{line}} {{connection}}",
                        )
                    ],
                    "1 while a receiver takes outcomes, or a PLC's heart beats.",
                    1,
                    0.5,
                    falling=True,
                    kind="stat",
                    width=8,
                ),
            ],
        ),
        (
            "Parts",
            [
                Panel(
                    "Outcomes",
                    "cps",
                    [Query('line:sightline_outcomes:rate5m{line=~"$line"}', "{{line}} verdict {{verdict}}")],
                    "Answers by verdict, later revisions included.",
                ),
                Panel(
                    "Answers after the deadline",
                    "percentunit",
                    [Query('line:sightline_answers_late:ratio5m{line=~"$line"}', "{{line}}")],
                    "Above the red line the alarm SightlineAnswersLate follows.",
                    0.001,
                    0.01,
                ),
                Panel(
                    "Time to the answer, 99 of 100 parts",
                    "s",
                    [Query('line:sightline_answer_seconds:p99_5m{line=~"$line"}', "{{line}}")],
                    "From a part's trigger or first capture until it was answered. Compare with the product's cycle time.",
                ),
                Panel(
                    "Outcomes that replaced an answer",
                    "cps",
                    [
                        Query(
                            'sum by (line) (rate(sightline_outcome_revisions_total{line=~"$line"}[5m])) or 0 * line:sightline_parts:rate5m{line=~"$line"}',
                            "{{line}}",
                        )
                    ],
                    "A view that came late and changed the answer.",
                ),
                Panel(
                    "Waiting for receivers",
                    "s",
                    [
                        Query(
                            'max by (line, connection) (sightline_outcome_oldest_waiting_seconds{line=~"$line"})',
                            "{{line}} {{connection}}",
                        )
                    ],
                    "Age of the oldest outcome that a receiver has not taken.",
                    10,
                    60,
                ),
                Panel(
                    "Line events",
                    "cps",
                    [
                        Query(
                            'sum by (line, kind) (rate(sightline_outcome_line_events_total{line=~"$line"}[5m]))',
                            "{{line}} {{kind}}",
                        )
                    ],
                    "Alarms, acknowledgements, connections lost and found.",
                ),
            ],
        ),
        (
            "Cameras",
            [
                Panel(
                    "Frames",
                    "cps",
                    [Query('camera:sightline_frames:rate1m{camera=~"$camera"}', "{{camera}}")],
                    "Frames accepted from each camera.",
                ),
                Panel(
                    "Age of the last frame",
                    "s",
                    [Query('camera:sightline_frame_age:seconds{camera=~"$camera"}', "{{camera}}")],
                    "A camera that sets its own pace and is silent for a minute raises SightlineCameraSilent.",
                    30,
                    60,
                ),
                Panel(
                    "Camera delivers",
                    "none",
                    [Query('min by (camera) (sightline_ingest_source_up{camera=~"$camera"})', "{{camera}}")],
                    "1 while it delivers, 0 while it is retried.",
                    1,
                    0.5,
                    falling=True,
                ),
                Panel(
                    "Triggers",
                    "cps",
                    [
                        Query(
                            'sum by (camera, outcome) (rate(sightline_ingest_triggers_total{camera=~"$camera"}[5m]))',
                            "{{camera}} {{outcome}}",
                        )
                    ],
                    "Pictures that the line asked for, by what became of them.",
                ),
                Panel(
                    "Frames refused within 10 min",
                    "short",
                    [
                        Query(
                            'sum by (camera) (increase(sightline_ingest_refused_total{camera=~"$camera"}[10m])) or 0 * camera:sightline_frame_age:seconds{camera=~"$camera"}',
                            "{{camera}}",
                        )
                    ],
                    "Too large, undecodable, of a wrong type: see the dead-letter topic.",
                    1,
                    5,
                ),
                Panel(
                    "Frames dropped within 10 min",
                    "short",
                    [
                        Query(
                            'camera:sightline_frames_dropped:increase10m{camera=~"$camera"} or 0 * camera:sightline_frame_age:seconds{camera=~"$camera"}',
                            "{{camera}}",
                        )
                    ],
                    "Lost for good.",
                    None,
                    1,
                ),
            ],
        ),
    ],
    (_LINE, _CAMERA),
)

PIPELINE: Final = Dashboard(
    "sightline-pipeline",
    "Sightline: pipeline",
    "Frames on their way from ingest to the review queue: how many wait, where, and what could not be used.",
    [
        (
            "Flow",
            [
                Panel(
                    "Records that wait",
                    "short",
                    [Query("service:sightline_lag_records:sum", "{{service}}")],
                    "Behind the end of the topic. A burst that falls is well; a line that rises needs replicas.",
                    200,
                    500,
                ),
                Panel(
                    "Frames in, verdicts out",
                    "cps",
                    [
                        Query('sum(camera:sightline_frames:rate1m{camera=~"$camera"})', "frames"),
                        Query('sum(camera:sightline_verdicts:rate1m{camera=~"$camera"})', "verdicts"),
                    ],
                    "Both lines lie on each other while all is well.",
                ),
                Panel(
                    "Dead letters within 10 min",
                    "short",
                    [Query("service:sightline_dead_letters:increase10m", "{{service}}")],
                    "Records that a service could not use.",
                    1,
                    5,
                ),
                Panel(
                    "Verdict by stage, 95 of 100",
                    "s",
                    [Query("stage:sightline_detector_seconds:p95_5m", "{{stage}}")],
                    "Where a frame's time goes: queue, fetch, decode, infer, publish; total is the sum.",
                ),
                Panel(
                    "Frames in one request",
                    "short",
                    [
                        Query(
                            "sum(rate(sightline_detector_batch_frames_sum[5m])) / (sum(rate(sightline_detector_batch_frames_count[5m])) > 0)",
                            "mean",
                        )
                    ],
                    "Small while there is time; it grows with the load.",
                ),
                Panel(
                    "In flight",
                    "short",
                    [
                        Query("sum(sightline_detector_in_flight_frames)", "detector"),
                        Query("sum(sightline_explainer_in_flight_cases)", "explainer"),
                        Query("sum(sightline_feedback_in_flight_cases)", "feedback"),
                        Query("sum(sightline_outcome_open_parts)", "parts that wait for views"),
                    ],
                    "Taken and not yet committed.",
                ),
            ],
        ),
        (
            "Outages",
            [
                Panel(
                    "Frames on disk",
                    "short",
                    [Query("sum by (instance) (sightline_ingest_spool_frames)", "{{instance}}")],
                    "Frames that wait for Kafka or the store.",
                ),
                Panel(
                    "Spool",
                    "percentunit",
                    [Query("sightline_ingest_spool_bytes / sightline_ingest_spool_limit_bytes", "{{instance}}")],
                    "How full the spool's disk share is.",
                    0.5,
                    0.9,
                ),
                Panel(
                    "Age of the oldest frame on disk",
                    "s",
                    [
                        Query(
                            '(time() - sightline_ingest_spool_oldest_timestamp_seconds{camera=~"$camera"} and sightline_ingest_spool_oldest_timestamp_seconds{camera=~"$camera"} > 0) or sightline_ingest_spool_oldest_timestamp_seconds{camera=~"$camera"} or 0 * sightline_ingest_outage{camera=~"$camera"}',
                            "{{camera}}",
                        )
                    ],
                    "0 while none waits.",
                    60,
                    600,
                ),
                Panel(
                    "Dependencies",
                    "none",
                    [Query("service:sightline_dependency_up:min", "{{service}}: {{dependency}}")],
                    "0 while a service waits for it.",
                    1,
                    0.5,
                    falling=True,
                ),
                Panel(
                    "Retries",
                    "cps",
                    [
                        Query(
                            "sum by (dependency) (rate(sightline_detector_retries_total[5m])) or vector(0)",
                            "detector {{dependency}}",
                        ),
                        Query(
                            "sum by (dependency) (rate(sightline_explainer_retries_total[5m])) or vector(0)",
                            "explainer {{dependency}}",
                        ),
                        Query(
                            "sum by (reason) (rate(sightline_feedback_retries_total[5m])) or vector(0)",
                            "feedback {{reason}}",
                        ),
                    ],
                    "Failures that were waited out.",
                ),
                Panel(
                    "Clocks ahead within 10 min",
                    "short",
                    [
                        Query(
                            "sum by (line) (increase(sightline_outcome_clock_skew_total[10m])) or 0 * line:sightline_parts:rate5m",
                            "{{line}}",
                        )
                    ],
                    "Frames whose camera's clock was ahead by more than may be.",
                    1,
                    10,
                ),
            ],
        ),
        (
            "Explanations",
            [
                Panel(
                    "Explanations",
                    "cps",
                    [
                        Query(
                            "sum by (method, status) (rate(sightline_explainer_explanations_total[5m]))",
                            "{{method}} {{status}}",
                        )
                    ],
                    "By how they ended.",
                ),
                Panel(
                    "From the verdict to the explanation, 95 of 100",
                    "s",
                    [
                        Query(
                            "histogram_quantile(0.95, sum by (le) (rate(sightline_explainer_age_seconds_bucket[5m])))",
                            "p95",
                        )
                    ],
                    "What a reviewer waits for.",
                    60,
                    300,
                ),
                Panel(
                    "How much time the backlog leaves",
                    "cps",
                    [Query("sum by (level) (rate(sightline_explainer_level_total[5m]))", "{{level}}")],
                    "full, fast or none.",
                ),
            ],
        ),
    ],
    (_LINE, _CAMERA),
)

MODEL: Final = Dashboard(
    "sightline-model",
    "Sightline: model",
    "Which version answers, whether it sees what it was calibrated on, how training goes, and what Triton does.",
    [
        (
            "Live",
            [
                Panel(
                    "Live version",
                    "none",
                    [Query("max by (alias) (sightline_detector_live_version)", "{{alias}}")],
                    "Version that answers.",
                    kind="stat",
                    width=6,
                ),
                Panel(
                    "Shadow version",
                    "none",
                    [
                        Query(
                            "max by (alias) (sightline_detector_shadow_version) or 0 * max by (alias) (sightline_detector_live_version)",
                            "{{alias}}",
                        )
                    ],
                    "Version that is tried beside it; 0 = none.",
                    kind="stat",
                    width=6,
                ),
                Panel(
                    "Versions warm",
                    "none",
                    [Query("instance:sightline_versions_warm:count", "{{instance}}")],
                    "Of each Triton.",
                    1,
                    0.5,
                    falling=True,
                    kind="stat",
                    width=6,
                ),
                Panel(
                    "Triton up",
                    "none",
                    [Query("min by (instance) (sightline_serving_triton_up)", "{{instance}}")],
                    "1 while it answers its agent.",
                    1,
                    0.5,
                    falling=True,
                    kind="stat",
                    width=6,
                ),
            ],
        ),
        (
            "What it sees",
            [
                Panel(
                    "Verdicts",
                    "cps",
                    [Query('model:sightline_verdicts:rate5m{model=~"$model"}', "{{model}} verdict {{verdict}}")],
                    "By model version.",
                ),
                Panel(
                    "Share of FAIL",
                    "percentunit",
                    [Query('model:sightline_fail:ratio5m{model=~"$model"}', "{{model}}")],
                    "A jump is the process, the light, or the model.",
                ),
                Panel(
                    "Score drift (PSI)",
                    "short",
                    [
                        Query(
                            'max by (model, product) (sightline_detector_score_psi{model=~"$model"})',
                            "{{model}} {{product}}",
                        )
                    ],
                    "Population stability index of the scores against the calibration: below 0.1 as it was, above 0.25 another population.",
                    0.1,
                    0.25,
                    needs=_DRIFT,
                ),
                Panel(
                    "Embedding drift (MMD², 1 = chance)",
                    "short",
                    [
                        Query(
                            'max by (model, product) (sightline_detector_embedding_mmd{model=~"$model"})',
                            "{{model}} {{product}}",
                        )
                    ],
                    "Squared maximum mean discrepancy of what the model saw in passed parts against its reference parts, in multiples of what chance explains.",
                    0.8,
                    1.0,
                    needs=_DRIFT,
                ),
                Panel(
                    "Frames in the drift window",
                    "short",
                    [
                        Query(
                            'min by (model, product) (sightline_detector_drift_frames{model=~"$model"})',
                            "{{model}} {{product}}",
                        )
                    ],
                    "Below 200 the alerts are silent.",
                    needs=_DRIFT,
                ),
                Panel(
                    "Changes of the live version within a day",
                    "short",
                    [
                        Query(
                            "sum by (alias) (increase(sightline_detector_swaps_total[1d])) or 0 * sum by (alias) (sightline_detector_live_version)",
                            "{{alias}}",
                        )
                    ],
                    "Promotions and roll-backs.",
                ),
            ],
        ),
        (
            "Triton",
            [
                Panel(
                    "Time in Triton's queue",
                    "s",
                    [Query("model:triton_queue_seconds:mean5m", "{{model}}")],
                    "Mean wait of a request before it is worked on.",
                    0.05,
                    0.1,
                ),
                Panel(
                    "Time of the network",
                    "s",
                    [Query("model:triton_compute_seconds:mean5m", "{{model}}")],
                    "Mean of the inference itself.",
                ),
                Panel(
                    "Requests",
                    "reqps",
                    [Query("sum by (model) (rate(nv_inference_request_success[5m]))", "{{model}}")],
                    "Answered.",
                ),
                Panel(
                    "Requests that failed",
                    "reqps",
                    [Query("sum by (model) (rate(nv_inference_request_failure[5m]))", "{{model}}")],
                    "Should be 0.",
                    None,
                    0.01,
                ),
                Panel(
                    "GPU",
                    "percentunit",
                    [Query("avg by (gpu_uuid) (nv_gpu_utilization)", "{{gpu_uuid}}")],
                    "How busy it is.",
                    0.8,
                    0.95,
                    needs=_GPU,
                ),
                Panel(
                    "GPU memory",
                    "percentunit",
                    [Query("max by (gpu_uuid) (nv_gpu_memory_used_bytes / nv_gpu_memory_total_bytes)", "{{gpu_uuid}}")],
                    "Live, previous and shadow lie there together.",
                    0.8,
                    0.95,
                    needs=_GPU,
                ),
            ],
        ),
        (
            "Training",
            [
                Panel(
                    "Runs within a day",
                    "short",
                    [
                        Query(
                            "sum by (outcome) (increase(sightline_trainer_runs_total[1d])) or vector(0)", "{{outcome}}"
                        )
                    ],
                    "By how they ended.",
                ),
                Panel(
                    "Broken gates within a day",
                    "short",
                    [
                        Query(
                            "sum by (gate) (increase(sightline_trainer_gate_failures_total[1d])) or vector(0)",
                            "{{gate}}",
                        )
                    ],
                    "Why candidates did not go live.",
                    1,
                    3,
                ),
                Panel(
                    "Answers since the last run",
                    "short",
                    [Query("max by (alias) (sightline_trainer_new_reviews) or vector(0)", "{{alias}}")],
                    "What the next run will learn from.",
                ),
            ],
        ),
    ],
    (_MODEL,),
)

REVIEW: Final = Dashboard(
    "sightline-review",
    "Sightline: review",
    "What waits for people, how fast they are, and what the audit sample says of the parts that pass.",
    [
        (
            "Queue",
            [
                Panel(
                    "Open cases",
                    "short",
                    [Query('line:sightline_open_cases:max{line=~"$line"}', "{{line}}")],
                    "Cases that nobody has answered.",
                ),
                Panel(
                    "Age of the oldest open case",
                    "s",
                    [Query('line:sightline_oldest_open_case:seconds{line=~"$line"}', "{{line}}")],
                    "A shift is 8 hours.",
                    14_400,
                    28_800,
                ),
                Panel(
                    "Cases and reviews",
                    "cps",
                    [
                        Query("sum(rate(sightline_feedback_cases_total[5m]))", "cases in"),
                        Query("sum(rate(sightline_feedback_reviews_total[5m])) or vector(0)", "reviews"),
                    ],
                    "Where the first lies above the second, the queue grows.",
                ),
                Panel(
                    "From the explanation to the queue, 95 of 100",
                    "s",
                    [
                        Query(
                            "histogram_quantile(0.95, sum by (le) (rate(sightline_feedback_case_seconds_bucket[5m])))",
                            "p95",
                        )
                    ],
                    "",
                    10,
                    60,
                ),
                Panel(
                    "Reviews not yet in Kafka",
                    "short",
                    [Query("max(sightline_feedback_unpublished)", "waiting")],
                    "They are on record; the trainer does not know of them yet.",
                    1,
                    50,
                ),
                Panel(
                    "Cases by kind",
                    "cps",
                    [Query("sum by (kind) (rate(sightline_feedback_cases_total[5m]))", "{{kind}}")],
                    "fail, review, audit.",
                ),
            ],
        ),
        (
            "Audit of parts that passed",
            [
                Panel(
                    "Escape rate",
                    "percentunit",
                    [
                        Query('line:sightline_escape:ratio{line=~"$line"}', "{{line}} estimate"),
                        Query(
                            'max by (line) (sightline_feedback_escape_low_ratio{line=~"$line"})', "{{line}} at least"
                        ),
                    ],
                    "Share of the passed parts that is defective, from the random audit sample; with the lower end of its 95 % interval.",
                    0.001,
                    0.005,
                    width=12,
                ),
                Panel(
                    "Audited parts",
                    "short",
                    [
                        Query('max by (line) (sightline_feedback_audited_cases{line=~"$line"})', "{{line}} settled"),
                        Query(
                            'max by (line) (sightline_feedback_audit_escape_cases{line=~"$line"})', "{{line}} defective"
                        ),
                    ],
                    "What the estimate rests on.",
                    width=12,
                ),
            ],
        ),
    ],
    (_LINE,),
)

INFRASTRUCTURE: Final = Dashboard(
    "sightline-infrastructure",
    "Sightline: infrastructure",
    "Processes, memory, certificates, the page.",
    [
        (
            "Processes",
            [
                Panel(
                    "Targets up",
                    "none",
                    [Query('min by (job) (up{job=~"sightline-.+"})', "{{job}}")],
                    "0: Prometheus cannot scrape it.",
                    1,
                    0.5,
                    falling=True,
                    kind="stat",
                    width=24,
                ),
                Panel(
                    "Memory",
                    "bytes",
                    [Query('process_resident_memory_bytes{job=~"sightline-.+"}', "{{job}} {{instance}}")],
                    "Resident, of each process.",
                ),
                Panel(
                    "Processor",
                    "percentunit",
                    [Query('rate(process_cpu_seconds_total{job=~"sightline-.+"}[5m])', "{{job}} {{instance}}")],
                    "1 is one core.",
                ),
                Panel(
                    "Open files",
                    "percentunit",
                    [Query('process_open_fds{job=~"sightline-.+"} / process_max_fds', "{{job}} {{instance}}")],
                    "Of what the process may have open.",
                    0.5,
                    0.8,
                ),
                Panel(
                    "Started",
                    "s",
                    [Query('time() - process_start_time_seconds{job=~"sightline-.+"}', "{{job}} {{instance}}")],
                    "How long ago; a saw-tooth is a crash loop.",
                ),
                Panel(
                    "Version",
                    "none",
                    [Query("count by (service, version) (sightline_build_info)", "{{service}} {{version}}")],
                    "Processes of each release.",
                ),
                Panel(
                    "Memory of its limit",
                    "percentunit",
                    [
                        Query(
                            'max by (pod, container) (container_memory_working_set_bytes{container=~"ingest|detector|outcome|explainer|feedback|trainer|serving|dashboard|triton"}) / (max by (pod, container) (container_spec_memory_limit_bytes) > 0)',
                            "{{pod}} {{container}}",
                        )
                    ],
                    "Beyond 1 the kernel kills it.",
                    0.8,
                    0.9,
                    needs=_CLUSTER,
                ),
            ],
        ),
        (
            "Edges",
            [
                Panel(
                    "Certificates",
                    "s",
                    [
                        Query(
                            "min by (job, file) (sightline_tls_certificate_expiry_timestamp_seconds) - time()",
                            "{{job}} {{file}}",
                        )
                    ],
                    "Time until it expires.",
                    1_209_600,
                    172_800,
                    falling=True,
                    needs=_TLS,
                ),
                Panel(
                    "Browsers", "short", [Query("sum(sightline_dashboard_clients)", "connected")], "On the live page."
                ),
                Panel(
                    "Sign-ins",
                    "cps",
                    [
                        Query(
                            "sum by (outcome) (rate(sightline_dashboard_sign_ins_total[5m])) or vector(0)",
                            "{{outcome}}",
                        )
                    ],
                    "Refused ones in number are somebody who tries.",
                ),
                Panel(
                    "gRPC calls to feedback that failed",
                    "cps",
                    [
                        Query(
                            'sum by (call) (rate(sightline_feedback_calls_total{outcome!="ok"}[5m])) or vector(0)',
                            "{{call}}",
                        )
                    ],
                    "By call.",
                    0.1,
                    1,
                ),
                Panel(
                    "The page reads Kafka",
                    "none",
                    [
                        Query("min(sightline_dashboard_kafka_up)", "verdicts"),
                        Query("min(sightline_dashboard_explained_up)", "explained"),
                        Query("min(sightline_dashboard_outcomes_up)", "outcomes"),
                    ],
                    "1 while it can.",
                    1,
                    0.5,
                    falling=True,
                ),
                Panel(
                    "Calls of Inspect",
                    "cps",
                    [
                        Query(
                            "sum by (outcome) (rate(sightline_detector_inspect_total[5m])) or vector(0)", "{{outcome}}"
                        )
                    ],
                    "By how they ended.",
                ),
            ],
        ),
    ],
)

ALL: Final = (LINE, PIPELINE, MODEL, REVIEW, INFRASTRUCTURE)
