"""Signed messages: how a receiver knows that a message is from us, is whole, and is not an old one sent again.

The signature of a body is ``t=<unix seconds>,v1=<hex>``, where the digest is HMAC-SHA256 of ``<t>.<body>`` with the
secret that both sides know.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

#: Shortest secret, in characters.
MIN_SECRET_CHARACTERS: Final = 16

_MAX_SIGNATURE_CHARACTERS: Final = 1024


def sign(secret: str, body: bytes, at_s: int) -> str:
    """Sign a body.

    Args:
        secret: Known to both sides.
        body: The bytes as they are sent.
        at_s: The present, seconds since the epoch.
    """
    return f"t={at_s},v1={_digest(secret, body, at_s)}"


def verify(secret: str, signature: str, body: bytes, now_s: float, tolerance_s: float) -> bool:
    """Tell whether a body was signed with the secret a short while ago.

    Args:
        secret: Known to both sides.
        signature: As it came with the body. It may hold more than one ``v1``, while a secret is exchanged for another.
        body: The bytes as they came, before anything has parsed them.
        now_s: The receiver's present, seconds since the epoch.
        tolerance_s: How far the two clocks, and the way, may be apart.
    """
    if len(signature) > _MAX_SIGNATURE_CHARACTERS:
        return False
    said = [part.strip().partition("=") for part in signature.split(",")]
    moments = [value for name, _, value in said if name == "t"]
    if len(moments) != 1 or not (moments[0].isascii() and moments[0].isdigit()) or len(moments[0]) > 15:
        return False
    at_s = int(moments[0])
    if abs(now_s - at_s) > tolerance_s:
        return False
    wanted = _digest(secret, body, at_s).encode()
    # Each is compared, and in a time that does not tell how much of it was right.
    # What a header holds need not be text that can be encoded.
    given = [value.encode("utf-8", "surrogatepass") for name, _, value in said if name == "v1"]
    right = [hmac.compare_digest(wanted, value) for value in given]
    return any(right)


def _digest(secret: str, body: bytes, at_s: int) -> str:
    return hmac.new(secret.encode(), f"{at_s}.".encode() + body, hashlib.sha256).hexdigest()
