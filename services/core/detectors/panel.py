"""Several detectors in one model version: each has a vote, and how far they disagree is told beside the score.

A member is a detector with a scale of its own, on which 0.5 is its threshold; it votes *defective* from there on. The
panel's score is the **mean** of the members' calibrated scores. These end at 0 and 1, so one member that is wildly off
moves the mean by its share and no more. The median moves by nothing, but where two of three members are alike it hears
those two alone: with a patch k-NN, and LOF and isolation forest on one embedding, it told the simulated parts apart
less well than the mean did with every seed (docs/detectors.md). What a lone member carries over the threshold is a
split vote, which a person decides in a panel of two or three.

The panel then gets a scale of its own like any detector, since the mean of scores that each promise 1 % false rejects
rejects another share than that; so a part may be rejected whose members all lie just below their own thresholds.

The members' scales are made of good parts that neither the members were fitted on nor the panel's scale is made of. On
parts that set a member's threshold hardly one lies above it, so there the members would never disagree, and what
disagreement costs in reviews would be measured as nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.core.detectors.calibrated import CalibratedDetector
from services.core.detectors.catalogue import fit_detector
from services.core.detectors.detector import (
    DETECTORS,
    LOCALISING,
    PANEL,
    DetectorSpec,
    Examined,
    Files,
    Images,
    Progress,
    check_images,
)
from services.core.detectors.header import HEADER, describe, kept_spec, pack, unpack
from services.core.detectors.scale import fit_scale, to_distance, worst_by_group
from services.core.errors import DetectorFitError, InvalidInputError, ModelFormatError
from services.core.manifest import OptionValue

LEAST_MEMBERS: Final = 2
MOST_MEMBERS: Final = 9

#: The option of a panel that lists its members, as on the command line, with commas between.
MEMBERS: Final = "members"

_THRESHOLD: Final = 0.5
_BATCH: Final = 16


class HeldOut(NamedTuple):
    """Good parts that the members' scales are made of; none of them may be fitted on."""

    images: Images
    groups: Sequence[str]
    """The part of each image."""


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """Fitted detectors that look together; see :class:`services.core.detectors.detector.Detector`.

    Attributes:
        spec: Its options list the members.
        members: In the order of the specification.
    """

    spec: DetectorSpec
    members: tuple[CalibratedDetector, ...]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(H, W, 3)`` of the images that all members were fitted on."""
        return self.members[0].detector.image_shape

    @property
    def embedding_size(self) -> int:
        """Numbers of the embedding: the first member's."""
        return self.members[0].detector.embedding_size

    def examine(self, images: Images) -> Examined:
        """Ask every member.

        Returns:
            The members' mean score, stretched so that 0 is the threshold and -4 a good part's; the first member's
            embeddings, since features of several kinds side by side would only tell apart what the longest of them
            does; the mean map of the members that have one, in the same units; and the disagreement.

        Raises:
            InvalidInputError: If the images have another shape than those of the fit.
        """
        check_images(images, self.image_shape)
        found = [member.detector.examine(images) for member in self.members]
        scores = np.stack(
            [member.scale.apply(said.scores) for member, said in zip(self.members, found, strict=True)], axis=0
        )
        maps = [
            member.scale.apply(said.maps)
            for member, said in zip(self.members, found, strict=True)
            if said.maps is not None
        ]
        return Examined(
            to_distance(scores.mean(axis=0)),
            found[0].embeddings,
            to_distance(np.mean(maps, axis=0)).astype(np.float32) if maps else None,
            disagreement(scores >= _THRESHOLD),
        )

    def files(self) -> dict[str, bytes]:
        """Give what :func:`load_panel` makes the same panel of: each member's files under its number."""
        files = {
            f"{_prefix(number)}{name}": data
            for number, member in enumerate(self.members)
            for name, data in member.files().items()
        }
        return pack(describe(self.spec, self.image_shape, self.embedding_size), files)


def disagreement(votes: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Say how far votes are from unanimous.

    Args:
        votes: Whether each member says *defective*, shape ``(M, N)``.

    Returns:
        Twice the share of the minority, shape ``(N,)``: 0 where all say the same, 1 where they are evenly split.

    Example:
        >>> disagreement(np.array([[1, 1, 0], [0, 1, 0], [1, 1, 0], [0, 1, 1]], dtype=bool))
        array([1. , 0. , 0.5])
    """
    count = len(votes)
    against = votes.sum(axis=0)
    return np.asarray(2 * np.minimum(against, count - against) / count, dtype=np.float64)


def fit_panel(
    images: Images,
    spec: DetectorSpec,
    held_out: HeldOut,
    false_reject_target: float,
    progress: Progress = lambda _share, _what: None,
) -> Panel:
    """Fit every member to images of good parts, and make its scale of others.

    Args:
        images: Prepared images, RGB, ``uint8``, shape ``(N, H, W, 3)``.
        spec: Of a panel; see :func:`named_spec`.
        held_out: What the members' scales are made of.
        false_reject_target: Share of good parts that each member alone may call defective, in ``(0, 1)``.
        progress: Told the share that is done and what is being done.

    Raises:
        InvalidInputError: If the members, the images or the options cannot be used; the message names the member.
        DetectorFitError: If a member cannot be fitted to these images; likewise.
    """
    wanted = member_specs(spec)
    members = []
    for number, one in enumerate(wanted):

        def tell(share: float, what: str, number: int = number, name: str = one.detector) -> None:
            progress((number + share) / len(wanted), f"{name}: {what}")

        try:
            members.append(_fit_member(images, one, held_out, false_reject_target, tell))
        except DetectorFitError as error:
            raise DetectorFitError(f"{one.detector}: {error}", error.reason) from error
        except InvalidInputError as error:
            raise InvalidInputError(f"{one.detector}: {error}") from error
    return Panel(spec, tuple(members))


def load_panel(spec: DetectorSpec, image_shape: tuple[int, int, int], files: Files) -> Panel:
    """Read a panel.

    Args:
        spec: What it must be.
        image_shape: ``(H, W, 3)`` of the images that it must take.
        files: What :meth:`Panel.files` gave.

    Raises:
        ModelFormatError: If it is another one, or a file is missing, damaged, foreign, or of another member.
    """
    try:
        wanted = member_specs(spec)
    except InvalidInputError as error:
        raise ModelFormatError(f"{HEADER}: {error}") from error
    header = unpack(spec, image_shape, files)
    foreign = sorted(
        name for name in header.sha256 if not any(name.startswith(_prefix(number)) for number in range(len(wanted)))
    )
    if foreign:
        raise ModelFormatError(f"files of a panel must be of one of its {len(wanted)} members, got {foreign}")
    panel = Panel(spec, tuple(_load_member(number, one, image_shape, files) for number, one in enumerate(wanted)))
    if panel.embedding_size != header.embedding_size:
        raise ModelFormatError(
            f"{HEADER}: embedding_size must be the first member's {panel.embedding_size}, got {header.embedding_size}"
        )
    return panel


def named_spec(
    names: Sequence[str], features: str, backbone: str, seed: int, options: Mapping[str, OptionValue]
) -> DetectorSpec:
    """Say what is to be fitted, as a person names it: one name is a detector, several are a panel.

    Args:
        names: ``NAME`` or ``NAME:FEATURES`` each, for example ``patch-knn`` or ``lof:embedding-pca64``.
        features: Of those of the fifteen that come without.
        backbone: Network of features that need one.
        seed: Of everything random.
        options: Of the detector; of a panel's members ``DETECTOR.NAME``.

    Raises:
        InvalidInputError: If a name is not known, brings features that it cannot have, or the members are too few, too
            many or the same.
    """
    if len(names) == 1:
        name, own = _named(names[0])
        return DetectorSpec(name, own or features, backbone, seed, options)
    spec = DetectorSpec(PANEL, features, backbone, seed, {**options, MEMBERS: ",".join(names)})
    written = ",".join(
        one.detector if one.detector in LOCALISING else f"{one.detector}:{one.features}" for one in member_specs(spec)
    )
    return DetectorSpec(PANEL, features, backbone, seed, {**options, MEMBERS: written})


def member_specs(spec: DetectorSpec) -> tuple[DetectorSpec, ...]:
    """Say what the members of a panel are, in order.

    Raises:
        InvalidInputError: If the specification is not of a panel that can be.
    """
    named = [_named(text) for text in _listed(spec.options)]
    if not LEAST_MEMBERS <= len(named) <= MOST_MEMBERS:
        raise InvalidInputError(f"a panel must have {LEAST_MEMBERS} to {MOST_MEMBERS} members, got {len(named)}")
    options: dict[str, dict[str, OptionValue]] = {name: {} for name, _ in named}
    for key, value in spec.options.items():
        detector, _, name = key.partition(".")
        if key == MEMBERS:
            continue
        if detector not in options or not name:
            raise InvalidInputError(
                f"an option of a panel must be DETECTOR.NAME of one of {', '.join(options)}, got {key!r}"
            )
        options[detector][name] = value
    specs = tuple(
        DetectorSpec(name, features or spec.features, spec.backbone, spec.seed, options[name])
        for name, features in named
    )
    voices = {(one.detector, "" if one.detector in LOCALISING else one.features) for one in specs}
    if len(voices) != len(specs):
        raise InvalidInputError(f"members of a panel must differ, got {', '.join(_listed(spec.options))}")
    return specs


def detectors_in(name: str, options: Mapping[str, OptionValue]) -> tuple[str, ...]:
    """Name the detectors that answer: the members of a panel, or the one that it is.

    Args:
        name: Of the detector, or of the panel.
        options: Of a panel, as its specification or its manifest has them.
    """
    if name != PANEL:
        return (name,)
    return tuple(text.partition(":")[0].strip() for text in _listed(options))


def _listed(options: Mapping[str, OptionValue]) -> list[str]:
    members = options.get(MEMBERS, "")
    if not isinstance(members, str) or not members.strip():
        raise InvalidInputError(f"a panel must list its {MEMBERS}, got {members!r}")
    return members.split(",")


def _named(text: str) -> tuple[str, str]:
    name, colon, features = (part.strip() for part in text.partition(":"))
    if name not in DETECTORS:
        raise InvalidInputError(f"a detector must be one of {', '.join(DETECTORS)}, got {name!r}")
    if colon and (name in LOCALISING or not features):
        rule = f"{name} brings its own features" if name in LOCALISING else "features must follow the colon"
        raise InvalidInputError(f"{rule}, got {text!r}")
    return name, features


def _fit_member(
    images: Images, spec: DetectorSpec, held_out: HeldOut, false_reject_target: float, progress: Progress
) -> CalibratedDetector:
    detector = fit_detector(images, spec, progress)
    progress(1.0, "its own scale")
    scores = [
        detector.examine(held_out.images[start : start + _BATCH]).scores
        for start in range(0, len(held_out.images), _BATCH)
    ]
    parts = worst_by_group(np.concatenate([*scores, np.empty(0)]), held_out.groups)
    return CalibratedDetector(detector, fit_scale(parts, false_reject_target))


def _load_member(
    number: int, spec: DetectorSpec, image_shape: tuple[int, int, int], files: Files
) -> CalibratedDetector:
    prefix = _prefix(number)
    own = {name.removeprefix(prefix): data for name, data in files.items() if name.startswith(prefix)}
    try:
        member = CalibratedDetector.load(spec.detector, image_shape, own)
        kept = kept_spec(own)
    except ModelFormatError as error:
        raise ModelFormatError(f"{prefix}*: {error}") from error
    if kept != spec:
        raise ModelFormatError(f"{prefix}{HEADER}: must be of {spec}, got {kept}")
    return member


def _prefix(number: int) -> str:
    return f"member{number + 1}-"
