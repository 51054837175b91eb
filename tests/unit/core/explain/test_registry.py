import pytest

from services.core.errors import InvalidInputError
from services.core.explain.registry import build_explainer
from services.core.explain.sampling import ESTIMATORS

FILL = (10, 20, 30)


@pytest.mark.parametrize("method", ESTIMATORS)
def test_the_rise_family_is_built_by_name_with_the_fill(method):
    explainer = build_explainer(method, fill=FILL)
    assert explainer.method == method
    assert explainer.fill == FILL


def test_an_unknown_method_is_refused_with_the_known_ones():
    with pytest.raises(InvalidInputError, match=r"one of rise, .*centre, got 'saliency'"):
        build_explainer("saliency", fill=FILL)
