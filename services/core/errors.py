"""The one error family of the domain.

Every error says the rule and the value received. ``retriable`` tells the consumer loop what to do: wait and
try again (the world may heal), or send the record to the dead-letter topic (it never will).
"""

from __future__ import annotations


class SightlineError(Exception):
    """Base of every error raised on purpose.

    Attributes:
        retriable: True when the same call may succeed later with the same input.
        reason: Short stable token for metrics labels and dead-letter headers, e.g. ``image_truncated``.
    """

    retriable: bool = False
    reason: str = "error"


class UnavailableError(SightlineError):
    """A dependency (broker, object store, Triton) did not answer; the same call may succeed later."""

    retriable = True
    reason = "unavailable"


class StoreFullError(UnavailableError):
    """The object store answers and has no room: what is read still comes, and nothing can be written."""

    reason = "store_full"


class InvalidInputError(SightlineError):
    """What came from outside breaks a rule and always will."""

    reason = "invalid_input"


class ImageError(InvalidInputError):
    """Bytes that are not a usable image."""

    reason = "image_invalid"


class EmptyImageError(ImageError):
    """Zero bytes."""

    reason = "image_empty"


class TruncatedImageError(ImageError):
    """The header is right but the pixels end early."""

    reason = "image_truncated"


class UnsupportedImageError(ImageError):
    """Not a JPEG, PNG, BMP or TIFF, or a pixel type that is not supported."""

    reason = "image_unsupported"


class ImageTooLargeError(ImageError):
    """More bytes or more pixels than allowed; refused before it is decoded."""

    reason = "image_too_large"


class ImageAspectError(ImageError):
    """One side is absurdly longer than the other."""

    reason = "image_aspect"


class MissingImageError(ImageError):
    """The object that a frame refers to does not exist."""

    reason = "image_missing"


class EventDecodeError(InvalidInputError):
    """A record's value is not the protobuf message its topic promises, or breaks a field's rule."""

    reason = "event_undecodable"


class ModelFormatError(InvalidInputError):
    """A model version's folder is incomplete, tampered with or from an unknown schema."""

    reason = "model_format"


class NotFoundError(SightlineError):
    """The thing asked for does not exist (object, model version, frame)."""

    reason = "not_found"


class ConflictError(SightlineError):
    """The change was made against a state that is no longer current."""

    reason = "conflict"


class ExistsError(ConflictError):
    """There is one already, and there may be only one."""

    reason = "exists"


class PreconditionError(ConflictError):
    """What is asked for cannot be done as things stand; something else must come first."""

    reason = "precondition"


class ForbiddenError(SightlineError):
    """Whoever asks may not have what is asked for."""

    reason = "forbidden"


class SpoolFullError(SightlineError):
    """The spool has reached its bound and its policy is to block."""

    retriable = True
    reason = "spool_full"


class ModelFailedError(UnavailableError):
    """Triton answers, and the model failed on what it was asked; it may have been the model or what it was asked."""

    reason = "model_failed"


class BusyError(SightlineError):
    """As much as is allowed waits already; the same call may succeed later."""

    retriable = True
    reason = "busy"


class ExplanationError(SightlineError):
    """What a model says of an image cannot be explained by this method.

    Args:
        message: The rule and the value received.
        reason: Short stable token, for example ``no_conv_layers``.
    """

    reason = "explanation_failed"

    def __init__(self, message: str, reason: str = "explanation_failed") -> None:
        super().__init__(message)
        self.reason = reason


class DetectorFitError(InvalidInputError):
    """A detector cannot be fitted to these images.

    Args:
        message: Why, and what to change.
        reason: Short stable token, for example ``no_cluster_separation``.
    """

    reason = "detector_fit_failed"

    def __init__(self, message: str, reason: str = "detector_fit_failed") -> None:
        super().__init__(message)
        self.reason = reason


class DivergedError(SightlineError):
    """The loss of a training is no number any more; a smaller learning rate may help."""

    reason = "training_diverged"


class DeadlineError(SightlineError):
    """The caller's own deadline passed before there was an answer."""

    reason = "deadline"


class SettingsError(SightlineError):
    """One or more settings are wrong; all of them are listed."""

    reason = "settings"
