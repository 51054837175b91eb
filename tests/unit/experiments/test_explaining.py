import numpy as np

from services.core.explain.attribution import Budget
from services.core.manifest import Normalisation
from services.core.preprocessing import Preprocessing
from services.experiments import explaining
from services.experiments.classifiers import Fitted
from services.experiments.explaining import Plan, explain_parts, mask_seed
from services.experiments.parts import Part

SIDE = 64


class _Net:
    normalisation = Normalisation((10.0, 20.0, 30.0), (1.0, 1.0, 1.0))


def bright(images):
    """Defective as far as the square in the upper left shows white."""
    share = images[:, 8:24, 8:24].astype(np.float32).mean(axis=(1, 2, 3)) / 255
    return np.stack([1 - share, share], axis=1)


def fitted(predict=bright) -> Fitted:
    return Fitted("net", _Net(), predict, Preprocessing(height_px=SIDE, width_px=SIDE), "made up")


def part(name: str = "p") -> Part:
    image = np.full((SIDE, SIDE, 3), 90, np.uint8)
    image[8:24, 8:24] = 255
    mask = np.zeros((SIDE, SIDE), bool)
    mask[8:24, 8:24] = True
    return Part(name, name, "spot", image, mask)


def explain(*methods: str, net: Fitted | None = None, faithful: bool = False):
    plan = Plan(methods, Budget(max_passes=256, batch_size=16), faithful)
    return list(explain_parts(net or fitted(), [part()], plan, seed=0))


def test_a_map_of_a_model_that_looks_at_the_defect_hits_it() -> None:
    (explained,) = explain("rise-centred", "occlusion", "centre")

    by_method = {record.method: record for record in explained.records}
    assert by_method["rise-centred"].hit == 1
    assert by_method["rise-centred"].pixel_auroc > 0.9
    assert by_method["occlusion"].hit == 1
    assert by_method["centre"].hit == 0
    assert by_method["centre"].passes == 0
    assert by_method["rise-centred"].passes == 256
    assert by_method["centre"].dice_ceiling == by_method["rise-centred"].dice_ceiling > 0


def test_the_papers_estimators_share_their_masks_and_each_is_charged_for_them() -> None:
    asked = []

    def counting(images):
        asked.append(len(images))
        return bright(images)

    (explained,) = explain("rise", "rise-centred", net=fitted(counting))

    assert sum(asked) == 1 + 256
    assert [record.passes for record in explained.records] == [256, 256]
    assert all(record.seconds > 0 for record in explained.records)


def test_a_model_that_says_the_same_of_everything_is_a_failure_with_a_reason() -> None:
    always = fitted(lambda images: np.tile(np.float32([0.0, 1.0]), (len(images), 1)))

    (explained,) = explain("rise", "centre", net=always)

    first, second = explained.records
    assert first.failure == "flat_map"
    assert (first.hit, first.pixel_auroc) == (0.0, 0.5)
    assert "rise" not in explained.maps
    assert not second.failure


def test_a_graded_map_carries_its_evidence() -> None:
    (explained,) = explain("rise-centred", "occlusion", faithful=True)

    record = explained.records[0]
    assert record.grade in set("ABCD")
    assert 0 <= record.trust <= 1
    assert record.deletion_auc < record.insertion_auc


def test_maps_lie_on_the_pictures_own_frame() -> None:
    wide = part()
    wide = Part("w", "w", "spot", np.repeat(wide.image, 2, axis=1), np.repeat(wide.mask, 2, axis=1))

    (explained,) = explain_parts(fitted(), [wide], Plan(("contrast",), Budget()), seed=0)

    assert explained.maps["contrast"].shape == (SIDE, 2 * SIDE)


def test_a_part_without_a_mask_is_explained_and_not_compared() -> None:
    plain = Part("n", "n", "good", part().image, None)

    (explained,) = explain_parts(fitted(), [plain], Plan(("centre",), Budget(), faithful=False), seed=0)

    assert explained.maps["centre"].shape == (SIDE, SIDE)
    assert np.isnan(explained.records[0].dice_ceiling)


def test_seeds_of_masks_differ_by_part_and_seed_alone() -> None:
    assert mask_seed("a", 0) == mask_seed("a", 0)
    assert len({mask_seed("a", 0), mask_seed("b", 0), mask_seed("a", 1)}) == 3


def test_a_cam_is_shown_beside_a_masked_map_and_the_other_way_round() -> None:
    found = {name: explaining._Timed(None, 0.0) for name in ("rise", "invrise-soft", "gradcam")}

    assert explaining._companion("gradcam", found) == "invrise-soft"
    assert explaining._companion("rise", found) == "gradcam"
    assert explaining._companion("rise", {"rise": found["rise"]}) == ""
