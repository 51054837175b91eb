from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from services.adapters.datasets import (
    read_good_folder,
    read_labelled_folder,
    walk_pictures,
    write_labelled_folder,
)
from services.core.errors import ConflictError, InvalidInputError, NotFoundError
from services.core.simulation.line import draw_part

MAGNETIC_TILE = Path(__file__).resolve().parents[4] / "shared" / "data" / "magnetic_tile"


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"any bytes: readers list files, they do not decode them")


def labels(root: Path, text: str, *names: str, encoding: str = "utf-8") -> Path:
    touch(*(root / "images" / name for name in names))
    (root / "labels.csv").write_text(text, encoding=encoding)
    return root


# ---------------------------------------------------------------------------- labels.csv


def test_headers_come_in_any_order_and_unknown_columns_are_ignored(tmp_path: Path) -> None:
    text = "Width, Group ,DEFECT,note,class,file\n640,g7,1,x,crack,a.png\n640,g8,0,,free,b.jpg\n"
    bad, good = read_labelled_folder(labels(tmp_path, text, "a.png", "b.jpg"))
    assert (bad.path.name, bad.defect, bad.defect_class, bad.group) == ("a.png", True, "crack", "g7")
    assert (good.path.name, good.defect, good.defect_class, good.group) == ("b.jpg", False, "", "g8")


def test_files_are_named_with_or_without_suffix(tmp_path: Path) -> None:
    images = read_labelled_folder(labels(tmp_path, "file,defect\na,1\nb.v2.jpg,0\n", "a.png", "b.v2.jpg"))
    assert [image.path.name for image in images] == ["a.png", "b.v2.jpg"]


def test_class_and_group_are_optional(tmp_path: Path) -> None:
    bad, good = read_labelled_folder(labels(tmp_path, "file,defect\na,true\nb,no\n", "a.png", "b.png"))
    assert (bad.defect_class, bad.group, good.group) == ("defect", "a", "b")


def test_item_serves_as_group_and_an_empty_cell_means_alone(tmp_path: Path) -> None:
    text = "item,file,defect\np1,a,0\np1,b,1\n,c,0\n"
    images = read_labelled_folder(labels(tmp_path, text, "a.png", "b.png", "c.png"))
    assert [image.group for image in images] == ["p1", "p1", "c"]


def test_masks_are_found_by_the_images_stem(tmp_path: Path) -> None:
    touch(tmp_path / "masks" / "a.png")
    with_mask, without = read_labelled_folder(labels(tmp_path, "file,defect\na,1\nb,1\n", "a.jpg", "b.jpg"))
    assert with_mask.mask_path == tmp_path / "masks" / "a.png"
    assert without.mask_path is None


def test_a_byte_order_mark_and_empty_lines_do_no_harm(tmp_path: Path) -> None:
    root = labels(tmp_path, "file,defect\r\na,1\r\n\r\n ,\r\n", "a.png", encoding="utf-8-sig")
    assert len(read_labelled_folder(root)) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,defect\na,1\n", "must have the columns file and defect, got name, defect"),
        ("", "must have the columns file and defect, got no header"),
        ("file,defect\nc,1\n", "line 2: file must name an image in images/, got 'c'"),
        ("file,defect\n../labels.csv,1\n", "line 2: file must name an image in images/, got '../labels.csv'"),
        ("file,defect\na.png,1\na.png,maybe\n", "line 3: defect must be 0 or 1, got 'maybe'"),
        ("file,defect\na.png,1\na.png,0\n", "line 3: a.png must be listed once, got it on line 2 too"),
        ("file,defect\na,1\n", "line 2: file must name one image, got 'a', which may be a.jpg, a.png"),
        ("file,defect\n", "must hold at least one image"),
    ],
)
def test_labels_that_contradict_the_files_are_refused_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        read_labelled_folder(labels(tmp_path, text, "a.png", "a.jpg"))
    assert message in str(caught.value)


def test_many_faults_are_counted_and_the_first_are_shown(tmp_path: Path) -> None:
    rows = "".join(f"x{number},1\n" for number in range(9))
    with pytest.raises(InvalidInputError, match=r"line 2: .*line 6: .* and 4 more") as caught:
        read_labelled_folder(labels(tmp_path, "file,defect\n" + rows, "a.png"))
    assert "line 7" not in str(caught.value)


def test_labels_without_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,defect\na,1\n")
    with pytest.raises(InvalidInputError, match="must lie beside a folder images/"):
        read_labelled_folder(tmp_path)


def test_labels_in_another_encoding_are_refused(tmp_path: Path) -> None:
    root = labels(tmp_path, "file,defect\nküche,1\n", "a.png", encoding="latin-1")
    with pytest.raises(InvalidInputError, match="must be UTF-8 text"):
        read_labelled_folder(root)


# ---------------------------------------------------------------------------- the other layouts


def test_mvtecs_layout_gives_types_masks_and_its_split(tmp_path: Path) -> None:
    touch(
        tmp_path / "train/good/000.png",
        tmp_path / "test/good/000.png",
        tmp_path / "test/broken_teeth/000.png",
        tmp_path / "test/rough/000.png",
        tmp_path / "ground_truth/broken_teeth/000_mask.png",
        tmp_path / "license.txt",
    )
    images = {image.group: image for image in read_labelled_folder(tmp_path)}
    assert set(images) == {"train/good/000", "test/good/000", "test/broken_teeth/000", "test/rough/000"}
    assert images["train/good/000"].split == "train"
    assert not images["test/good/000"].defect
    broken = images["test/broken_teeth/000"]
    assert (broken.defect, broken.defect_class, broken.split) == (True, "broken_teeth", "test")
    assert broken.mask_path == tmp_path / "ground_truth/broken_teeth/000_mask.png"
    assert images["test/rough/000"].mask_path is None


@pytest.mark.parametrize(("good", "bad"), [("ok_front", "def_front"), ("good", "defect"), ("OK", "Defective")])
def test_two_folders_tell_good_from_defective(tmp_path: Path, good: str, bad: str) -> None:
    touch(
        tmp_path / good / "1.jpeg", tmp_path / bad / "1.JPEG", tmp_path / bad / ".hidden.png", tmp_path / bad / "a.txt"
    )
    first, second = read_labelled_folder(tmp_path)
    assert (first.defect, first.defect_class) == (False, "")
    assert (second.defect, second.defect_class) == (True, "defect")
    assert first.group != second.group


def test_a_folder_without_a_known_layout_says_what_is_expected(tmp_path: Path) -> None:
    touch(tmp_path / "pictures" / "a.png")
    with pytest.raises(
        InvalidInputError, match=r"labels.csv and images/, or train/good and test/, or .* got pictures in"
    ):
        read_labelled_folder(tmp_path)


def test_a_missing_folder_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="must exist"):
        read_labelled_folder(tmp_path / "nowhere")


def test_empty_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "ok").mkdir()
    (tmp_path / "def").mkdir()
    with pytest.raises(InvalidInputError, match="at least one image"):
        read_labelled_folder(tmp_path)


# ---------------------------------------------------------------------------- writing


def test_what_is_written_reads_back_pixel_by_pixel(tmp_path: Path) -> None:
    parts = [draw_part("disc", seed, defect=defect, size_px=96) for seed, defect in [(1, None), (2, "crack")]]
    assert write_labelled_folder(iter(parts), tmp_path / "set") == 2
    good, bad = read_labelled_folder(tmp_path / "set")
    assert (good.defect, good.mask_path) == (False, None)
    assert (bad.defect, bad.defect_class) == (True, "crack")
    np.testing.assert_array_equal(cv2.imread(str(bad.path))[..., ::-1], parts[1].image)
    assert bad.mask_path is not None
    np.testing.assert_array_equal(cv2.imread(str(bad.mask_path), cv2.IMREAD_GRAYSCALE) > 0, parts[1].mask)


def test_views_of_a_part_stay_together_and_seeds_are_kept(tmp_path: Path) -> None:
    parts = [draw_part("disc", 5, view=view, size_px=96) for view in (0, 1)]
    write_labelled_folder(parts, tmp_path)
    first, second = read_labelled_folder(tmp_path)
    assert first.path != second.path
    assert first.group == second.group
    with (tmp_path / "labels.csv").open(encoding="utf-8", newline="") as file:
        assert [row["seed"] for row in csv.DictReader(file)] == ["5", "5"]


def test_a_set_that_was_cut_off_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    def cut_off() -> object:
        yield draw_part("disc", 1, size_px=96)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_labelled_folder(cut_off(), tmp_path)  # type: ignore[arg-type]
    assert not (tmp_path / "labels.csv").exists()
    assert write_labelled_folder([draw_part("disc", 1, size_px=96)], tmp_path) == 1


def test_an_existing_set_is_never_overwritten(tmp_path: Path) -> None:
    write_labelled_folder([draw_part("disc", 1, size_px=96)], tmp_path)
    with pytest.raises(ConflictError, match=r"labels\.csv must not exist yet"):
        write_labelled_folder([draw_part("disc", 2, size_px=96)], tmp_path)


def test_only_png_and_jpeg_are_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"suffix must be \.png or \.jpg, got '\.gif'"):
        write_labelled_folder([], tmp_path, suffix=".gif")
    write_labelled_folder([draw_part("disc", 1, size_px=96)], tmp_path, suffix=".jpg")
    assert read_labelled_folder(tmp_path)[0].path.suffix == ".jpg"


@pytest.mark.skipif(not MAGNETIC_TILE.is_dir(), reason="the magnetic tile set is not beside this checkout")
def test_the_magnetic_tile_set_is_read_whole() -> None:
    images = read_labelled_folder(MAGNETIC_TILE)
    assert len(images) == 1344
    assert sum(image.defect for image in images) == 392
    assert len({image.group for image in images}) == 150
    assert sum(image.mask_path is not None for image in images if image.defect) == 388


# ---------------------------------------------------------------------------- folders without labels


def test_a_plain_folder_is_good_parts_each_a_group_of_its_own(tmp_path: Path) -> None:
    touch(tmp_path / "b.jpg", tmp_path / "a.png", tmp_path / ".hidden.png", tmp_path / "notes.txt")
    found = read_good_folder(tmp_path)
    assert [(one.path.name, one.defect, one.group) for one in found] == [("a.png", False, "a"), ("b.jpg", False, "b")]


def test_of_a_labelled_folder_the_good_parts_are_taken(tmp_path: Path) -> None:
    labels(tmp_path / "csv", "file,defect\na,1\nb,0\n", "a.png", "b.png")
    touch(tmp_path / "two" / "good" / "c.png", tmp_path / "two" / "defect" / "d.png")
    assert [one.path.name for one in read_good_folder(tmp_path / "csv")] == ["b.png"]
    assert [one.path.name for one in read_good_folder(tmp_path / "two")] == ["c.png"]


def test_a_folder_of_good_parts_must_exist_and_hold_some(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="a folder of pictures must exist"):
        read_good_folder(tmp_path / "nowhere")
    with pytest.raises(InvalidInputError, match="a labelled folder must hold"):
        read_good_folder(tmp_path)


def test_pictures_below_a_folder_come_in_the_order_of_names(tmp_path: Path) -> None:
    touch(tmp_path / "z.png", tmp_path / "b" / "2.png", tmp_path / "b" / "1.TIF", tmp_path / "a" / "c" / "x.bmp")
    touch(tmp_path / ".cache" / "y.png", tmp_path / "b" / "notes.txt", tmp_path / "out" / "w.png")
    found = [path.relative_to(tmp_path).as_posix() for path in walk_pictures(tmp_path, skip=tmp_path / "out")]
    assert found == ["z.png", "a/c/x.bmp", "b/1.TIF", "b/2.png"]
