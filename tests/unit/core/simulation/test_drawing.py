from __future__ import annotations

import pytest

from services.core.errors import InvalidInputError
from services.core.simulation.drawing import Drawing, drawing_from, is_drawn


def test_a_part_comes_out_of_its_source_again_byte_for_byte() -> None:
    drawing = Drawing("fabric", 700_000_123, "hole", 1)
    again = drawing_from(drawing.source, drawing.label)
    assert again == drawing
    assert again.picture() == drawing.picture()
    good = Drawing("disc", 5, None, 0)
    assert drawing_from(good.source, good.label) == good


def test_other_sources_are_no_drawings() -> None:
    assert is_drawn("disc/5/0")
    for source in ("", "seed:1", "cap/5/0", "disc/5", "disc/-5/0", "disc/5/0/x", "DISC/5/0"):
        assert not is_drawn(source)
        with pytest.raises(InvalidInputError, match="must be told as product/seed/view"):
            drawing_from(source, "good")
    with pytest.raises(InvalidInputError, match="must be good or have one of its defects, got 'rust'"):
        drawing_from("fabric/5/0", "rust")
