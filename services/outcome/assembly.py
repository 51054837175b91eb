"""From settings to running lines."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from services.adapters.ports import OutcomeSink, ProcessImage
from services.core.alarm import AlarmBoard
from services.core.errors import ConflictError, InvalidInputError
from services.core.line_event import LineEvent
from services.core.plc import TriggeredPart
from services.core.reference_check import ReferenceCheck
from services.outcome.asking import Announce, Cameras, PictureAsker
from services.outcome.delivery import Delivery
from services.outcome.gateway import LineFiles, LineGateway, NamedDelivery, NamedPlc
from services.outcome.plc_connection import PlcConnection
from services.outcome.settings import (
    FileSettings,
    LineSettings,
    ModbusSettings,
    MqttSettings,
    OpcUaSettings,
    OutcomeSettings,
    WebhookSettings,
)
from services.outcome.state_file import BytesFile
from services.outcome.triggering import Triggering
from services.runtime.logging import get_logger

LOG = get_logger(__name__)

MakeImage = Callable[[ModbusSettings | OpcUaSettings, LineSettings], ProcessImage]
MakeSink = Callable[[MqttSettings | WebhookSettings | FileSettings, LineSettings], OutcomeSink]


def only_one(folder: Path) -> int:
    """Take the folder of what must survive; give the file back to ``os.close``.

    Raises:
        ConflictError: When another process has it: two would answer one line.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o640)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise ConflictError(f"a data folder serves one outcome service at a time, another one uses {folder}") from None
    return file


class LineBuilder:
    """Builds the gateways of all lines.

    Args:
        settings: All of them.
        tell: Puts events on record.
        announce: Puts the word on record that a part is there.
        cameras: Asked for pictures; None where nobody is.
        broker_away: Why the broker is away; empty while it is not.
        blind: Why outcomes cannot be read; empty while they can.
        make_image: Builds a PLC's signals.
        make_sink: Builds a receiver.
    """

    def __init__(
        self,
        settings: OutcomeSettings,
        *,
        tell: Callable[[Sequence[LineEvent]], None],
        announce: Announce,
        cameras: Cameras | None,
        broker_away: Callable[[], str],
        blind: Callable[[], str],
        make_image: MakeImage,
        make_sink: MakeSink,
    ) -> None:
        self._settings = settings
        self._tell = tell
        self._announce = announce
        self._cameras = cameras
        self._broker_away = broker_away
        self._blind = blind
        self._make_image = make_image
        self._make_sink = make_sink

    def build(self, line: LineSettings) -> LineGateway:
        """Build one line; nothing is served yet."""
        settings = self._settings
        folder = settings.data / "lines" / line.line_id
        products = settings.plans.products_on(line.line_id)
        asker = PictureAsker(line.line_id, self._announce, self._cameras)
        files = LineFiles(
            BytesFile(folder / "alarms.json", fsync=settings.fsync),
            BytesFile(folder / "reference.json", fsync=settings.fsync),
        )
        built: list[LineGateway] = []
        plcs = [
            self._plc(line, one, frozenset(products), asker, folder, lambda: built[0])
            for one in line.connections
            if isinstance(one, ModbusSettings | OpcUaSettings)
        ]
        deliveries = [
            self._delivery(line, one)
            for one in line.connections
            if isinstance(one, MqttSettings | WebhookSettings | FileSettings)
        ]
        built.append(
            LineGateway(
                line.line_id,
                plcs,
                deliveries,
                Triggering(
                    line.line_id,
                    products,
                    line.recipes,
                    line.product,
                    line.cycle_time_ms,
                    # The part is answered by its deadline, with or without a picture.
                    ask=lambda part: asker.ask(part, lambda _part_id, _why: None),
                    tell=self._tell,
                ),
                asker,
                _alarms(line, files),
                _reference(line, files),
                settings.shift_plan,
                files,
                tell=self._tell,
                broker_away=self._broker_away,
            )
        )
        return built[0]

    def _plc(
        self,
        line: LineSettings,
        options: ModbusSettings | OpcUaSettings,
        products: frozenset[str],
        asker: PictureAsker,
        folder: Path,
        gateway: Callable[[], LineGateway],
    ) -> NamedPlc:
        made: list[PlcConnection] = []

        def ask(part: TriggeredPart) -> None:
            asker.ask(part, made[0].no_camera)

        made.append(
            PlcConnection(
                line.handshake(options, products),
                self._make_image(options, line),
                BytesFile(folder / f"plc-{options.name}.json", fsync=self._settings.fsync),
                tell=self._tell,
                ask=ask,
                light=lambda: gateway().light,
                blind=self._blind,
            )
        )
        return NamedPlc(options.kind, made[0], options.triggered)

    def _delivery(self, line: LineSettings, options: MqttSettings | WebhookSettings | FileSettings) -> NamedDelivery:
        sink = self._make_sink(options, line)
        delivery = Delivery(line.line_id, options.name, sink, max_age_s=options.max_age_s, tell=self._tell)
        return NamedDelivery(options.kind, sink.address, delivery)


def _alarms(line: LineSettings, files: LineFiles) -> AlarmBoard:
    saved = files.alarms.load()
    if saved is not None:
        try:
            return AlarmBoard.from_json(saved, line.alarm_rules)
        except InvalidInputError as error:
            LOG.error("alarms of an earlier life are left out: %s", error, extra={"line": line.line_id})  # noqa: TRY400
    return AlarmBoard(line.alarm_rules)


def _reference(line: LineSettings, files: LineFiles) -> ReferenceCheck:
    saved = files.reference.load()
    if saved is not None:
        try:
            return ReferenceCheck.from_json(saved, line.references)
        except InvalidInputError as error:
            # Then a check is due, which is the safe side.
            LOG.error("a check of an earlier life is left out: %s", error, extra={"line": line.line_id})  # noqa: TRY400
    return ReferenceCheck(line.references)
