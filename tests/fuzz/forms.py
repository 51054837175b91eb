"""Bodies and addresses that a browser sends to the dashboard."""

from __future__ import annotations

import sys
from typing import Any, Final
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError

from tests.fuzz.harness import cut, instrumented, refused, run

with instrumented(__name__):
    from services.core.errors import InvalidInputError
    from services.dashboard.attempts import address_key
    from services.dashboard.posted import read_form
    from services.dashboard.routes import bulk_forms, review_forms, sessions, users
    from services.dashboard.routes.statistics import StatisticsQuery

NAME = "forms"

#: New ones go to the end.
FORMS: Final[tuple[type[BaseModel], ...]] = (
    review_forms.AnswerForm,
    review_forms.ClaimForm,
    review_forms.UndoForm,
    bulk_forms.BulkForm,
    bulk_forms.ExportForm,
    sessions.SignInForm,
    sessions.PasswordForm,
    users.NewUserForm,
    users.UserForm,
)
QUERIES: Final[tuple[type[BaseModel], ...]] = (
    review_forms.QueueQuery,
    review_forms.ReviewQuery,
    bulk_forms.ExportQuery,
    StatisticsQuery,
)


def check(data: bytes) -> None:
    which, body = cut(data, len(FORMS) + len(QUERIES) + 1)
    if which < len(FORMS):
        form = refused(lambda: read_form(FORMS[which], body))
        if form is not None:
            _ask(form)
    elif which < len(FORMS) + len(QUERIES):
        asked = dict(parse_qsl(body.decode("latin-1"), keep_blank_values=True))
        try:
            query = QUERIES[which - len(FORMS)].model_validate(asked)
        except (ValidationError, InvalidInputError):
            # The application answers both with 422.
            return
        _ask(query)
    else:
        assert len(address_key(body.decode("latin-1"))) <= 64


def _ask(form: Any) -> None:
    for name in ("where", "order"):
        getattr(form, name, None)


def seeds() -> dict[str, bytes]:
    case_id, review_id = "018bcfe5-6800-7000-8000-000000000001", "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
    answer = f'{{"review_id": "{review_id}", "case_id": "{case_id}"}}'
    written = {
        0: f'{{"review_id": "{review_id}", "action": "answer", "verdict_right": "no", "note": "seen"}}',
        1: '{"reviewer": "ada"}',
        2: f'{{"review_id": "{review_id}", "reviewer": "ada", "said_at_ms": 1700000000000}}',
        3: f'{{"reviewer": "ada", "action": "skip", "answers": [{answer}]}}',
        4: f'{{"case_ids": ["{case_id}"], "layout": "coco", "labels": "settled", "reviewers": true}}',
        5: '{"name": "Ada", "password": "correct horse battery"}',
        6: '{"old": "correct horse battery", "new": "staple battery horse"}',
        7: '{"name": "Olga", "role": "operator", "password": "correct horse battery"}',
        8: '{"role": "engineer", "active": false}',
        9: "line=line-1&verdict=FAIL&order=by_gain&limit=10&after=WyJ4Il0&since_ms=1",
        10: "reviewer=ada&standing=true&limit=5",
        11: "layout=mvtec&labels=settled&camera=cam-1",
        12: "since_ms=1&until_ms=2&line=line-1",
        13: "::ffff:10.0.0.1",
    }
    return {str(index): bytes([index]) + text.encode() for index, text in written.items()}


if __name__ == "__main__":
    sys.exit(run(NAME, check))
