"""Page tokens and signatures: opaque texts that come back from whoever was given them."""

from __future__ import annotations

import sys

from tests.fuzz.harness import cut, instrumented, refused, run

with instrumented(__name__):
    from services.adapters.caseindex_token import case_position, case_token, review_position, review_token
    from services.adapters.ports import QueueOrder
    from services.core.signature import sign, verify
    from services.feedback.changebook import _place

NAME = "tokens"
_SECRET = "a secret of this test"
_NOW_S = 1_700_000_000
_ORDERS = tuple(QueueOrder)


def check(data: bytes) -> None:
    way, body = cut(data, len(_ORDERS) + 3)
    text = body.decode("utf-8", "surrogateescape")
    if way < len(_ORDERS):
        order = _ORDERS[way]
        case = refused(lambda: case_position(order, text))
        assert case is None or case_position(order, case_token(order, *case)) == case
    elif way == len(_ORDERS):
        review = refused(lambda: review_position(text))
        assert review is None or review_position(review_token(*review)) == review
    elif way == len(_ORDERS) + 1:
        refused(lambda: _place(text))
    else:
        signature, _, signed = text.partition("\n")
        if verify(_SECRET, signature, signed.encode("utf-8", "surrogateescape"), _NOW_S, 300):
            # Nobody without the secret comes upon one, so it must hold the one that we would give.
            moment = next(part for part in signature.split(",") if part.strip().startswith("t="))
            said = sign(_SECRET, signed.encode("utf-8", "surrogateescape"), int(moment.strip()[2:]))
            assert said.split(",")[1] in signature


def seeds() -> dict[str, bytes]:
    case_id = "018bcfe5-6800-7000-8000-000000000001"
    made = {
        order.value: bytes([index])
        + case_token(order, 0.5 if order is QueueOrder.BY_GAIN else 1_700_000_000, case_id).encode()
        for index, order in enumerate(_ORDERS)
    }
    count = len(_ORDERS)
    made["review"] = bytes([count]) + review_token(1_700_000_000, "6ba7b810-9dad-41d1-80b4-00c04fd430c8").encode()
    made["change"] = bytes([count + 1]) + b"default:3,other:12"
    made["signature"] = bytes([count + 2]) + sign(_SECRET, b"{}", _NOW_S).encode() + b"\n{}"
    return made


if __name__ == "__main__":
    sys.exit(run(NAME, check))
