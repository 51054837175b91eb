"""Settings of the explainer."""

from __future__ import annotations

from typing import Self

from pydantic import Field, field_validator, model_validator

from services.core.explain import defaults
from services.core.explain.attribution import KNOWN_METHODS
from services.runtime.settings import (
    GrpcSettings,
    KafkaSettings,
    LimitSettings,
    ObjectStoreSettings,
    ServiceSettings,
    SettingsGroup,
    TritonSettings,
)

Methods = tuple[str, ...]

_FLAGGED: tuple[str, ...] = (defaults.DEFAULT_METHOD, defaults.CAM_METHOD, defaults.PUBLISHED_CAM_METHOD)


class PolicySettings(SettingsGroup):
    """Which case gets which maps. The first named is shown first; none leaves cases unexplained."""

    fail: Methods = Field(default=_FLAGGED, description="Methods for cases with the verdict FAIL.")
    review: Methods = Field(default=_FLAGGED, description="Methods for cases with the verdict REVIEW.")
    audit: Methods = Field(
        default=(defaults.CAM_METHOD,), description="Methods for parts that passed and were drawn at random."
    )
    by_alias: dict[str, Methods] = Field(
        default_factory=dict, description="Methods for FAIL and REVIEW of a model alias, in place of the above."
    )
    fast: str = Field(default=defaults.CAM_METHOD, description="The one method while cases pile up.")
    fast_passes: int = Field(
        default=64,
        ge=1,
        le=10_000,
        description="Passes that a map is left with however many cases wait.",
    )
    fast_above_cases: int = Field(
        default=24, ge=1, le=1_000_000, description="Waiting cases above which only the fast method is asked."
    )
    none_above_cases: int = Field(
        default=2_000, ge=1, le=10_000_000, description="Waiting cases above which none is asked (reason `backlog`)."
    )

    @field_validator("fail", "review", "audit")
    @classmethod
    def _check_methods(cls, methods: Methods) -> Methods:
        unknown = [method for method in methods if method not in KNOWN_METHODS]
        if unknown:
            raise ValueError(f"a method must be one of {', '.join(KNOWN_METHODS)}, got {', '.join(unknown)}")
        if len(set(methods)) != len(methods):
            raise ValueError(f"a method must be named once, got {', '.join(methods)}")
        return methods

    @field_validator("by_alias")
    @classmethod
    def _check_by_alias(cls, by_alias: dict[str, Methods]) -> dict[str, Methods]:
        return {alias: cls._check_methods(methods) for alias, methods in by_alias.items()}

    @field_validator("fast")
    @classmethod
    def _check_fast(cls, method: str) -> str:
        return cls._check_methods((method,))[0]

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.fast_above_cases > self.none_above_cases:
            raise ValueError(
                "fast_above_cases must be at most none_above_cases, got "
                f"{self.fast_above_cases} and {self.none_above_cases}"
            )
        return self


class BudgetSettings(SettingsGroup):
    """What an explanation may cost."""

    case_s: float = Field(
        default=8.0, gt=0, le=600, description="Time for all maps of a case; what there is by then is kept as PARTIAL."
    )
    max_passes: int = Field(default=defaults.MAX_PASSES, ge=1, le=100_000, description="Most forward passes of a map.")
    min_stability: float = Field(
        default=defaults.MIN_STABILITY,
        ge=0,
        le=1,
        description="A map that draws masks is finished as soon as it is this stable; 0 spends all passes.",
    )
    evidence: bool = Field(
        default=True, description="Spend further passes on how well a map explains (deletion, insertion)."
    )


class CalibrationSettings(SettingsGroup):
    """Where colour begins: measured on the reference parts of each version, in the background, once."""

    parts: int = Field(default=20, ge=0, le=1_000, description="Good parts that are explained; 0 calibrates nothing.")
    patience_s: float = Field(
        default=5.0, ge=0, le=3_600, description="Longest wait for an idle moment before the next good part."
    )


class ExplainerSettings(ServiceSettings):
    """Everything that the explainer can be told."""

    kafka: KafkaSettings = KafkaSettings()
    object_store: ObjectStoreSettings = ObjectStoreSettings()
    triton: TritonSettings = TritonSettings()
    grpc: GrpcSettings = GrpcSettings(port=50053)
    limits: LimitSettings = LimitSettings()
    policy: PolicySettings = PolicySettings()
    budget: BudgetSettings = BudgetSettings()
    calibration: CalibrationSettings = CalibrationSettings()

    workers: int = Field(
        default=1, ge=1, le=64, description="Cases explained at once; more only pay with more explaining models."
    )
    max_in_flight_cases: int = Field(
        default=256, ge=1, le=10_000, description="Cases taken and not yet settled; at this number polling pauses."
    )
    max_in_flight_bytes: int = Field(
        default=32_000_000, ge=1_000_000, description="Bytes of those cases' records; at this number polling pauses."
    )
    map_side_px: int = Field(default=96, ge=8, le=512, description="Longest side of a map as it is written.")
    model_wait_s: float = Field(
        default=120.0,
        ge=0,
        le=3_600,
        description="How long cases wait for an explaining model that is not loaded before they go without a map.",
    )
    attempts: int = Field(
        default=6,
        ge=1,
        le=100,
        description="Tries of one method on one case while Triton answers others; then it goes without that map.",
    )
    commit_interval_ms: int = Field(default=500, ge=10, le=60_000, description="Time between commits of offsets.")
    recent_ids: int = Field(
        default=4_096, ge=0, le=1_000_000, description="Handled case ids remembered for each partition."
    )
    revoke_settle_s: float = Field(
        default=10.0, ge=0, le=60, description="Longest time to finish cases of partitions that leave."
    )
    explain_max_waiting: int = Field(
        default=4, ge=1, le=1_000, description="Callers of Explain at once; more are refused."
    )
    startup_wait_s: float = Field(
        default=300.0, gt=0, le=3_600, description="Longest wait for Kafka at the start; then it ends and says why."
    )

    @model_validator(mode="after")
    def _check_times(self) -> Self:
        if self.drain_s * 1_000 >= self.kafka.max_poll_interval_ms:
            raise ValueError(
                "drain_s must be shorter than kafka.max_poll_interval_ms, got "
                f"{self.drain_s} s and {self.kafka.max_poll_interval_ms} ms"
            )
        return self
