from __future__ import annotations

import hashlib
import hmac

import pytest

from services.core.signature import sign, verify

SECRET = "a secret of more than 16"


def test_a_signature_is_the_digest_of_time_and_body() -> None:
    digest = hmac.new(SECRET.encode(), b"1700000000.{}", hashlib.sha256).hexdigest()
    assert sign(SECRET, b"{}", 1_700_000_000) == f"t=1700000000,v1={digest}"


def test_what_was_signed_a_short_while_ago_is_verified() -> None:
    assert verify(SECRET, sign(SECRET, b"body", 1000), b"body", now_s=1004.5, tolerance_s=5)
    assert verify(SECRET, sign(SECRET, b"body", 1000), b"body", now_s=996.0, tolerance_s=5)


def test_an_old_message_sent_again_is_not() -> None:
    assert not verify(SECRET, sign(SECRET, b"body", 1000), b"body", now_s=1006.0, tolerance_s=5)


def test_another_body_secret_or_time_is_not() -> None:
    signature = sign(SECRET, b"body", 1000)
    assert not verify(SECRET, signature, b"bodY", now_s=1000, tolerance_s=5)
    assert not verify("another secret, as long", signature, b"body", now_s=1000, tolerance_s=5)
    assert not verify(SECRET, signature.replace("t=1000", "t=1001"), b"body", now_s=1000, tolerance_s=5)


def test_one_right_digest_of_two_is_enough_while_a_secret_is_exchanged() -> None:
    old, new = sign("the secret until today", b"body", 1000), sign(SECRET, b"body", 1000)
    both = f"{old},{new.partition(',')[2]}"
    assert verify(SECRET, both, b"body", now_s=1000, tolerance_s=5)


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "t=1000",
        "v1=00",
        "t=,v1=00",
        "t=x,v1=00",
        "t=-1,v1=0",
        "t=1000,t=1000,v1=00",
        "t=٣,v1=é",
        "," * 2000,
        "t=1000,v1=\udceb",
    ],
)
def test_what_is_no_signature_is_refused(signature: str) -> None:
    assert not verify(SECRET, signature, b"body", now_s=1000, tolerance_s=5)
