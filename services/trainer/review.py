"""Sends pictures of an archive to review, on a line, as the line's own detector sends frames."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.adapters.modelregistry import ModelRegistry
from services.adapters.modelstore import ModelStore
from services.adapters.ports import ObjectStore, RecordWriter
from services.core.decision import decide, for_a_person
from services.core.errors import ConflictError, ImageError, NotFoundError, UnavailableError
from services.core.identity import derive_frame_id, id_from_text, validate_id
from services.core.manifest import ModelManifest
from services.core.preprocessing import prepare
from services.core.types import CaseKind, ImageRef, Inspection, Verdict
from services.runtime.images import case_image_key, image_suffix
from services.runtime.outbox import Output
from services.runtime.verdicts import case_output, likeliest_defect, verdict_output
from services.trainer.fitted import FittedVersion, Said
from services.trainer.ranking import Top, read_picture

DEFAULT_LINE: Final = "archive"
DEFAULT_CAMERA: Final = "search"

_ACK_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class ReviewPlace:
    """Where pictures of an archive stand among the line's.

    Attributes:
        line_id: Their line.
        camera_id: Their camera.
        product: Their product; empty takes the version's alias.
    """

    line_id: str = DEFAULT_LINE
    camera_id: str = DEFAULT_CAMERA
    product: str = ""

    def __post_init__(self) -> None:
        validate_id(self.line_id, "line_id")
        validate_id(self.camera_id, "camera_id")
        if self.product:
            validate_id(self.product, "product")


def check_registered(manifest: ModelManifest, registry: ModelRegistry, models: ModelStore, folder: Path) -> None:
    """Refuse a version that the line could not explain.

    Args:
        manifest: The version's, as the folder has it.
        registry: Knows what each alias points to; read to its end.
        models: Holds the versions.
        folder: Where it lies, for the message.

    Raises:
        NotFoundError: If the registry does not know the version.
        ConflictError: If the store holds another version of that number, or no Triton is told to load it.
        UnavailableError: If broker or store do not answer.
    """
    name = f"{manifest.alias} version {manifest.version}"
    state = registry.states.get(manifest.alias)
    known = set() if state is None else {*state.wanted_versions, *state.candidate_versions}
    if manifest.version not in known:
        raise NotFoundError(
            f"review needs a version that the line knows, got {name}, which it does not: "
            f"sightline models add {folder} --promote"
        )
    if models.manifest(manifest.alias, manifest.version) != manifest:
        raise ConflictError(f"review needs the line's own {name}, got a folder that holds another: {folder}")
    if state is not None and manifest.version not in state.wanted_versions:
        raise ConflictError(
            f"review needs a version that is loaded, so that it can explain, got {name}, a candidate: "
            f"sightline models promote {manifest.version} --alias {manifest.alias}"
        )


def send_to_review(
    version: FittedVersion,
    data: Path,
    top: Sequence[Top],
    place: ReviewPlace,
    store: ObjectStore,
    writer: RecordWriter,
    progress: Callable[[float], None] = lambda _share: None,
    clock_ns: Callable[[], int] = time.time_ns,
) -> list[str]:
    """Write a verdict and a case of each picture.

    Ids derive from the picture's content and its file's time: who sends the same twice sends the same ids, and
    everyone behind the topics drops the second.

    Args:
        version: What ranked them.
        data: The archive.
        top: Which of its pictures.
        place: Line and camera that they are shown under.
        store: Takes the pictures.
        writer: Takes the records.
        progress: Told the share that is sent.
        clock_ns: Wall clock.

    Returns:
        Their frame ids, in the order of the ranks.

    Raises:
        UnavailableError: If broker or store do not answer; what was sent may be sent again.
    """
    ids = []
    for number, one in enumerate(top):
        try:
            frame_id, outputs = _records(version, data, one, place, store, clock_ns)
        except ImageError:
            # It was there when it was scored; a file that went since has nothing left to show.
            continue
        acks = [writer.send(each.topic, key=each.key, value=each.value, headers=each.headers) for each in outputs]
        for ack in acks:
            try:
                ack.result(_ACK_S)
            except TimeoutError as error:
                raise UnavailableError(f"the broker must acknowledge within {_ACK_S:.0f} s, it did not") from error
        ids.append(frame_id)
        progress((number + 1) / len(top))
    return ids


def _records(
    version: FittedVersion,
    data: Path,
    one: Top,
    place: ReviewPlace,
    store: ObjectStore,
    clock_ns: Callable[[], int],
) -> tuple[str, Sequence[Output]]:
    path = data / one.file
    image, pixels = read_picture(path)
    said = version.say([prepare(pixels, version.manifest.preprocessing)])[0]
    taken_at_ns = max(1, path.stat().st_mtime_ns)
    digest = hashlib.sha256(image).hexdigest()
    frame_id = derive_frame_id(place.camera_id, f"sha256:{digest}", 0, taken_at_ns)
    now_ns = clock_ns()
    # By reference whatever its size: a verdict says where its picture lies, and no frame of the line holds this one.
    key = case_image_key(place.line_id, place.camera_id, frame_id, image_suffix(image), now_ns)
    ref = store.put(key, image)
    inspection = _inspection(version.manifest, one, said, place, frame_id, taken_at_ns, now_ns, ref)
    kind = CaseKind.FAIL if inspection.verdict is Verdict.FAIL else CaseKind.REVIEW
    case = case_output(inspection, kind, embedding=said.embedding, image_ref=ref)
    return frame_id, (verdict_output(inspection), case)


def _inspection(
    manifest: ModelManifest,
    one: Top,
    said: Said,
    place: ReviewPlace,
    frame_id: str,
    taken_at_ns: int,
    now_ns: int,
    ref: ImageRef,
) -> Inspection:
    decision = for_a_person(decide(said.score, manifest.operating_point, said.disagreement))
    return Inspection(
        frame_id=frame_id,
        part_id=id_from_text(one.file, "part_id"),
        line_id=place.line_id,
        camera_id=place.camera_id,
        product=place.product or manifest.alias,
        sequence=one.rank,
        captured_at_ns=taken_at_ns,
        decided_at_ns=now_ns,
        verdict=decision.verdict,
        reason=decision.reason,
        score=said.score,
        operating_point=manifest.operating_point,
        uncertainty=decision.uncertainty,
        alias=manifest.alias,
        model_version=manifest.version,
        defect_class=likeliest_defect(manifest.classes, said.probabilities),
        image_ref=ref,
        detail=f"rank {one.rank} of an archive: {one.file}"[:500],
        disagreement=said.disagreement,
    )
