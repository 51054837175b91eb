"""Explanations on the wire: what is put in comes out, and what does not belong there is refused."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from services.adapters.explaining import FIGURES, pack_figures, parse_request, unpack
from services.adapters.ports import ExplanationRequest, ExplanationStep
from services.core.errors import InvalidInputError


def test_a_request_is_read_as_it_was_written() -> None:
    request = ExplanationRequest(
        "invrise",
        target=2,
        seed=2**63 - 1,
        max_passes=400,
        budget_ms=900,
        min_stability=0.9,
        steps=True,
        evidence=False,
    )
    assert parse_request(dataclasses.asdict(request)) == request
    assert parse_request({"method": "rise"}) == ExplanationRequest("rise")
    assert parse_request({"method": "rise", "min_stability": 1}).min_stability == 1


@pytest.mark.parametrize(
    ("parameters", "rule"),
    [
        ({}, "method"),
        ({"method": "rise", "passes": 3}, "passes"),
        ({"method": 3}, "method must be str"),
        ({"method": "rise", "steps": 1}, "steps must be bool"),
        ({"method": "rise", "target": True}, "target must be int"),
        ({"method": "rise", "seed": -1}, "seed must be at least 0"),
        ({"method": "rise", "max_passes": 0}, "max_passes must be at least 1"),
        ({"method": "rise", "budget_ms": -1}, "budget_ms"),
        ({"method": "rise", "min_stability": 1.5}, "min_stability"),
        ({"method": "rise", "min_stability": math.nan}, "min_stability"),
    ],
)
def test_parameters_that_make_no_request_are_refused(parameters: dict[str, object], rule: str) -> None:
    with pytest.raises(InvalidInputError, match=rule):
        parse_request(parameters)


@pytest.mark.parametrize(("final", "partial"), [(False, False), (True, False), (True, True)])
def test_figures_come_out_as_they_went_in(final: bool, partial: bool) -> None:
    values = np.array([[1.0, np.nan]], np.float32)
    step = ExplanationStep(values, 0.25, 640, 0.5, 0.125, math.nan, 0.75, -0.5, 2.5, final=final, partial=partial)
    figures = pack_figures(step)
    assert figures.dtype == np.float32
    assert figures.shape == (len(FIGURES),)
    again = unpack(values, figures)
    assert again.map is values
    assert math.isnan(again.insertion_auc)
    for name in FIGURES:
        if name not in ("flags", "insertion_auc"):
            assert getattr(again, name) == getattr(step, name)
    assert (again.final, again.partial) == (final, partial)
