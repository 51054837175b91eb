"""Settings of the outcome service: what is expected of each product, and which lines this process speaks for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator

from services.core.alarm_rule import DEFAULT_RULES, AlarmKind, AlarmPer, AlarmRule, Counted
from services.core.errors import InvalidInputError
from services.core.identity import validate_id
from services.core.joining import JoinLimits
from services.core.line_event import Light
from services.core.loopback import is_loopback
from services.core.outcome import WORST_OF_ALL, FailClause, PartPlan, PartPlans
from services.core.plc import HandshakeSettings
from services.core.reference_check import ReferenceCheck, ReferencePart
from services.core.shift import ShiftPlan, parse_shift_plan
from services.core.types import Verdict
from services.runtime.settings import GrpcSettings, KafkaSettings, ServiceSettings, SettingsGroup

Port = Annotated[int, Field(ge=0, le=65_535, description="0 takes a free one.")]


class FailClauseSettings(SettingsGroup):
    """One way for a part to be FAIL."""

    at_least: int = Field(default=1, ge=1, le=64, description="Views that say FAIL.")
    cameras: list[str] = Field(default_factory=list, description="Only views of these count; empty for all.")
    defect_classes: list[str] = Field(default_factory=list, description="Only these defects count; empty for all.")

    def clause(self) -> FailClause:
        """As the rule takes it."""
        return FailClause(self.at_least, frozenset(self.cameras), frozenset(self.defect_classes))


class PartPlanSettings(SettingsGroup):
    """Which views the parts of a product must have, and when they are FAIL."""

    product: str
    line_id: str = Field(default="", description="Only on this line; empty for all.")
    cameras: list[str] = Field(min_length=1, max_length=64, description="Each must see the part.")
    deadline_ms: int = Field(
        default=0,
        ge=0,
        le=86_400_000,
        description="The answer is due this long after the first capture or trigger; 0 takes the frames' cycle time.",
    )
    fail_when: list[FailClauseSettings] = Field(
        default_factory=list,
        description="FAIL where any of these is met; empty makes a part as bad as its worst view. PASS always needs "
        "every view to pass; whatever is neither is REVIEW.",
    )

    def plan(self) -> PartPlan:
        """As the joiner takes it."""
        clauses = tuple(clause.clause() for clause in self.fail_when) or WORST_OF_ALL
        return PartPlan(self.product, frozenset(self.cameras), self.line_id, self.deadline_ms, clauses)


class HandshakeOptions(SettingsGroup):
    """What every PLC's connection has."""

    name: str = Field(description="Names the connection in events and metrics.")
    host: str = Field(default="127.0.0.1", description="Address that the signals are served on.")
    triggered: bool = Field(
        default=True, description="Parts come by trigger; else each outcome of the line is shown, one after the other."
    )
    safe_level: Literal["fail", "review"] = Field(
        default="fail", description="What the outputs say while nothing that is said can be relied on."
    )
    answer_before_ms: int = Field(
        default=50, ge=0, le=60_000, description="REVIEW is said this long before the deadline without an outcome."
    )
    ack_timeout_ms: int = Field(
        default=2_000, ge=10, le=3_600_000, description="A result that stands for longer is an error; it stays."
    )
    heartbeat_timeout_ms: int = Field(
        default=2_000,
        ge=0,
        le=600_000,
        description="A heartbeat that stands still for longer is lost; 0 = not watched.",
    )
    encoder_pitch: int = Field(
        default=0, ge=0, le=1_000_000_000, description="A part comes every so many counts of the encoder; 0 = none."
    )


class ModbusSettings(HandshakeOptions):
    """A PLC that speaks Modbus-TCP; it connects to us."""

    kind: Literal["modbus"]
    port: Port = 502
    unit_id: int = Field(default=1, ge=1, le=247)


class OpcUaSettings(HandshakeOptions):
    """A PLC that speaks OPC UA; it connects to us."""

    kind: Literal["opcua"]
    port: Port = 4840
    certificate_file: Path | None = Field(
        default=None,
        description="Our certificate, DER or PEM; without one, everybody is let in unencrypted, on loopback only.",
    )
    key_file: Path | None = Field(default=None, description="That certificate's key.")
    username: str = Field(default="", description="User that the PLC signs in as, with a certificate of ours.")
    password: SecretStr = Field(default=SecretStr(""), description="That user's password.")
    trusted_files: list[Path] = Field(
        default_factory=list, description="Certificates of PLCs that are let in; empty lets every one that signs in."
    )

    @model_validator(mode="after")
    def _is_safe(self) -> Self:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file must be set together, got one of them")
        if self.certificate_file is None and (self.username or self.trusted_files):
            raise ValueError("a user or trusted certificates need certificate_file, got none")
        if self.certificate_file is None and not is_loopback(self.host):
            raise ValueError(
                f"OPC UA without a certificate must be served on loopback, where nobody signs in, got {self.host!r}"
            )
        if self.certificate_file is not None and not (self.username or self.trusted_files):
            raise ValueError("with a certificate a user or trusted certificates must be named, got neither")
        return self


class ReceiverOptions(SettingsGroup):
    """What every receiver of outcomes and events has."""

    name: str = Field(description="Names the connection in events and metrics.")
    max_age_s: float = Field(
        default=3_600.0,
        gt=0,
        le=604_800,
        description="An outcome that is older when the receiver is back is passed over, and that is on record.",
    )
    timeout_s: float = Field(default=5.0, gt=0, le=120, description="Longest wait for the receiver's answer.")


class MqttSettings(ReceiverOptions):
    """An MQTT broker."""

    kind: Literal["mqtt"]
    host: str
    port: int = Field(default=1883, ge=1, le=65_535)
    username: str = ""
    password: SecretStr = SecretStr("")
    tls: bool = Field(default=False, description="Speak TLS; without files of its own, with the system's authorities.")
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    topic_prefix: str = Field(default="sightline", min_length=1, max_length=200)
    payload: Literal["json", "sparkplug"] = "json"
    triggers: bool = Field(default=False, description="Take triggers from `<prefix>/<line>/trigger`.")


class WebhookSettings(ReceiverOptions):
    """A web address that is called with each outcome and event."""

    kind: Literal["webhook"]
    url: str = Field(min_length=1)
    secret: SecretStr = Field(description="Signs each call; the receiver checks it.")


class FileSettings(ReceiverOptions):
    """Files, one for each day."""

    kind: Literal["file"]
    folder: Path
    format: Literal["jsonl", "csv"] = "jsonl"


ConnectionSettings = Annotated[
    ModbusSettings | OpcUaSettings | MqttSettings | WebhookSettings | FileSettings, Field(discriminator="kind")
]


class AlarmRuleSettings(SettingsGroup):
    """One rule that raises alarms; see ``docs/outcome.md``."""

    name: str
    kind: Literal["in_a_row", "of_last", "rate"]
    n: int = Field(default=0, ge=0, description="in_a_row, of_last: so many parts are an alarm.")
    k: int = Field(default=0, ge=0, description="of_last: parts to look back on.")
    share: float = Field(default=0.0, ge=0, lt=1, description="rate: a larger share is an alarm.")
    window_s: int = Field(default=0, ge=0, description="rate: within this long.")
    min_parts: int = Field(default=0, ge=0, description="rate: with fewer parts there is no alarm.")
    verdicts: list[Literal["pass", "fail", "review", "late"]] = Field(
        default=["fail", "review"], description="What counts."
    )
    per: list[Literal["line", "camera", "product", "defect_class"]] = Field(
        default=["line"], description="What counts are kept apart by."
    )
    product: str = Field(default="", description="Only this product counts; empty for all.")
    camera_id: str = Field(default="", description="Only views of this camera count; empty for all.")
    defect_class: str = Field(default="", description="Only this defect counts; empty for all.")
    light: Literal["amber", "red"] = "amber"

    def rule(self) -> AlarmRule:
        """As the alarm board takes it."""
        return AlarmRule(
            name=self.name,
            kind=AlarmKind(self.kind),
            n=self.n,
            k=self.k,
            share=self.share,
            window_s=self.window_s,
            min_parts=self.min_parts,
            verdicts=frozenset(Counted(one) for one in self.verdicts),
            per=frozenset(AlarmPer(one) for one in self.per),
            product=self.product,
            camera_id=self.camera_id,
            defect_class=self.defect_class,
            light=Light(self.light),
        )


class ReferencePartSettings(SettingsGroup):
    """A part that is known to be good or bad, for the check at a shift's start."""

    part_id: str = Field(description="The part's id; `ref-good*` takes every id that begins so.")
    expected: Literal["pass", "fail"]


class LineSettings(SettingsGroup):
    """A line that this process speaks for; no other may."""

    line_id: str
    product: str = Field(default="", description="What is made until the line says otherwise; empty takes the first.")
    cycle_time_ms: int = Field(
        default=1_000, ge=10, le=86_400_000, description="A triggered part's answer is due this long after the trigger."
    )
    recipes: dict[str, str] = Field(
        default_factory=dict, description="Product by what the PLC says for it, a number for example."
    )
    connections: list[ConnectionSettings] = Field(default_factory=list, max_length=16)
    alarms: list[AlarmRuleSettings] | None = Field(
        default=None, description="Rules that raise alarms; left out, those of docs/outcome.md."
    )
    reference_parts: list[ReferencePartSettings] = Field(
        default_factory=list, max_length=32, description="Shown at each shift's start; empty asks for no check."
    )

    @field_validator("line_id")
    @classmethod
    def _is_id(cls, value: str, info: ValidationInfo) -> str:
        try:
            return validate_id(value, info.field_name or "id")
        except InvalidInputError as error:
            raise ValueError(str(error)) from None

    @property
    def alarm_rules(self) -> tuple[AlarmRule, ...]:
        """Its rules."""
        return DEFAULT_RULES if self.alarms is None else tuple(one.rule() for one in self.alarms)

    @property
    def references(self) -> tuple[ReferencePart, ...]:
        """Its reference parts."""
        return tuple(ReferencePart(one.part_id, Verdict(one.expected)) for one in self.reference_parts)

    def handshake(self, plc: HandshakeOptions, products: frozenset[str]) -> HandshakeSettings:
        """How one of its PLCs is spoken with."""
        return HandshakeSettings(
            line_id=self.line_id,
            connection=plc.name,
            products=products,
            recipes=self.recipes,
            product=self.product,
            triggered=plc.triggered,
            cycle_time_ms=self.cycle_time_ms,
            answer_before_ms=plc.answer_before_ms,
            ack_timeout_ms=plc.ack_timeout_ms,
            heartbeat_timeout_ms=plc.heartbeat_timeout_ms,
            safe_level=Verdict(plc.safe_level),
            encoder_pitch=plc.encoder_pitch,
        )


class JoiningSettings(SettingsGroup):
    """How long and how much is waited for."""

    decide_before_ms: int = Field(
        default=100,
        ge=0,
        le=60_000,
        description="An answer that is due is decided this long before its deadline, so that the line has it in time; "
        "at most a quarter of the time that there is.",
    )
    give_up_s: float = Field(
        default=60.0, gt=0, le=86_400, description="A part without a deadline is answered as it is after this long."
    )
    remember_s: float = Field(
        default=300.0, ge=1, le=86_400, description="A late view supersedes an answer for this long."
    )
    max_open_parts: int = Field(
        default=100_000, ge=10, le=10_000_000, description="Parts that wait; one more has the oldest answered early."
    )
    max_remembered_parts: int = Field(default=200_000, ge=10, le=10_000_000, description="Answered parts in memory.")
    max_skew_s: float = Field(
        default=2.0, gt=0, le=3_600, description="A camera's clock that is ahead by more is told of."
    )

    def limits(self) -> JoinLimits:
        """As the joiner takes them."""
        return JoinLimits(
            self.decide_before_ms, self.give_up_s, self.remember_s, self.max_open_parts, self.max_remembered_parts
        )


class IngestAddressSettings(SettingsGroup):
    """Where pictures of triggered parts are asked for."""

    address: str = Field(
        default="", description="host:port of ingest's gRPC; empty asks nobody: the cameras see the trigger themselves."
    )
    timeout_s: float = Field(default=1.0, gt=0, le=60, description="Longest wait for its answer.")


class OutcomeSettings(ServiceSettings):
    """Everything that the outcome service can be told."""

    kafka: KafkaSettings = KafkaSettings(fetch_wait_ms=100)
    grpc: GrpcSettings = GrpcSettings(port=50057, max_workers=16)
    ingest: IngestAddressSettings = IngestAddressSettings()
    joining: JoiningSettings = JoiningSettings()
    parts: list[PartPlanSettings] = Field(
        default_factory=list, max_length=10_000, description="One for each product; others are never PASS."
    )
    lines: list[LineSettings] = Field(
        default_factory=list, max_length=256, description="Lines that this process speaks for; may be none."
    )
    data: Path = Field(
        default=Path(".sightline/outcome"),
        description="Folder of what must survive: handshakes, alarms, events that wait for the broker.",
    )
    fsync: bool = Field(default=False, description="Survive the loss of power too, at the price of milliseconds.")
    events_max_bytes: int = Field(
        default=100_000_000, ge=1_000_000, description="Events that may wait for the broker; the oldest go."
    )
    shifts: str = Field(
        default="early 06:00-14:00, late 14:00-22:00, night 22:00-06:00",
        description="At whose starts reference parts are due, from and to a quarter of an hour; empty for none.",
    )
    time_zone: str = Field(default="UTC", description="Of the shifts, for example `Europe/Berlin`.")
    startup_wait_s: float = Field(
        default=300.0, gt=0, le=3_600, description="Longest wait for Kafka at the start; then it ends and says why."
    )

    @property
    def plans(self) -> PartPlans:
        """What is expected of each product."""
        return PartPlans(tuple(part.plan() for part in self.parts))

    @property
    def shift_plan(self) -> ShiftPlan:
        """The shifts."""
        return parse_shift_plan(self.shifts, self.time_zone)

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        try:
            plans = self.plans
            parse_shift_plan(self.shifts, self.time_zone)
            for line in self.lines:
                self._check_line(line, plans)
        except InvalidInputError as error:
            raise ValueError(str(error)) from error
        ids = [line.line_id for line in self.lines]
        twice = sorted({one for one in ids if ids.count(one) > 1})
        if twice:
            raise ValueError(f"line_id must be unique over all lines, got twice: {', '.join(twice)}")
        if self.drain_s * 1_000 >= self.kafka.max_poll_interval_ms:
            raise ValueError(
                "drain_s must be shorter than kafka.max_poll_interval_ms, got "
                f"{self.drain_s} s and {self.kafka.max_poll_interval_ms} ms"
            )
        return self

    @staticmethod
    def _check_line(line: LineSettings, plans: PartPlans) -> None:
        products = frozenset(plans.products_on(line.line_id))
        names = [one.name for one in line.connections]
        twice = sorted({one for one in names if names.count(one) > 1})
        if twice:
            raise InvalidInputError(f"connections of {line.line_id} must have different names, got {', '.join(twice)}")
        for connection in line.connections:
            validate_id(connection.name, f"a connection of {line.line_id}")
            if isinstance(connection, HandshakeOptions):
                line.handshake(connection, products)
        rules = [rule.name for rule in line.alarm_rules]
        if len(set(rules)) != len(rules):
            raise InvalidInputError(f"alarms of {line.line_id} must have different names, got {', '.join(rules)}")
        ReferenceCheck(line.references)
