"""The segmenter's trainer: what is read, refused, augmented, trained, resumed and measured, on drawn films."""

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from finetune.records import RecordError
from finetune.samples import TRAINED_ON
from finetune.seg_augment import deform, windows
from finetune.seg_fit import Fit, Recipe, add_to_logits, parts_of, pooled_dice
from finetune.seg_grade import grade, summarise
from finetune.seg_pairs import IGNORE, find_pairs, split_lungs
from finetune.seg_phantom import KINDS, draw_abdomen, write_phantoms
from finetune.segmenter import SHIPPED, evaluate, main, train, unseen
from vision.evidence import LUNGS
from vision.unet import load_segmenter, unet

TINY = Recipe(size=32, epochs=3, batch=8, rate=5e-3, channels=(4, 8, 16))


def chest(rng: np.random.Generator, size: tuple[int, int] = (60, 50)) -> tuple[Image.Image, Image.Image]:
    """A grey film with two dark lungs, and the mask of both."""
    width, height = size
    mask = Image.new("L", size)
    for left in (0.12, 0.55):
        start, tall = left + rng.uniform(-0.04, 0.04), rng.uniform(0.5, 0.7)
        mask.paste(255, (int(start * width), int(0.2 * height), int((start + 0.3) * width), int((0.2 + tall) * height)))
    grey = np.where(np.asarray(mask) > 0, 60, 170) + rng.normal(0, 12, (height, width))
    return Image.fromarray(grey.clip(0, 255).astype(np.uint8)), mask


def place(root: Path, name: str, film: Image.Image, mask: Image.Image | None, label: str = "") -> None:
    for folder in (root / "images", root / "masks" / label):
        folder.mkdir(parents=True, exist_ok=True)
    film.save(root / f"images/{name}.png")
    if mask:
        mask.save(root / "masks" / label / f"{name}.png")


@pytest.fixture(scope="module")
def chests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 films of 40 children, with masks of both lungs."""
    root, rng = tmp_path_factory.mktemp("chests"), np.random.default_rng(0)
    for number in range(60):
        place(root, f"person{number * 2 // 3}_virus_{number}", *chest(rng))
    return root


def index_of(*rows: str) -> Image.Image:
    return Image.fromarray(np.array([[int(v) for v in row] for row in rows], np.uint8))


def test_a_mask_of_both_lungs_is_split_as_the_patient_stands(chests: Path) -> None:
    pairs, classes = find_pairs(chests)
    assert classes == LUNGS and len(pairs) == 60
    for pair in pairs:
        right, left = ((pair.mask == value).nonzero()[1] for value in (1, 2))
        assert len(right) and len(left) and right.max() < left.min()  # the patient's right is at the image's left


def test_lungs_that_touch_are_cut_where_they_are_thin_and_others_left_out() -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 5:25] = mask[10:30, 32:55] = mask[18:20, 25:32] = 255
    mask[0, 0] = IGNORE
    split = split_lungs(mask)
    assert split is not None and (split[10:30, 5:25] == 1).all() and (split[10:30, 32:55] == 2).all()
    assert split[0, 0] == IGNORE and set(np.unique(split).tolist()) == {0, 1, 2, IGNORE}
    mask[38, 58] = 255  # a crumb is no lung
    crumbed = split_lungs(mask)
    assert crumbed is not None and crumbed[38, 58] in (2, IGNORE)
    block = np.zeros((40, 60), np.uint8)
    block[10:30, 5:55] = 255
    assert split_lungs(block) is None and split_lungs(np.zeros((9, 9), np.uint8)) is None


def test_films_that_cannot_be_used_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(1)
    film, mask = chest(rng)
    place(tmp_path, "good", film, mask)
    place(tmp_path, "again", film, mask)
    place(tmp_path, "alone", chest(rng)[0], None)
    place(tmp_path, "empty", chest(rng)[0], Image.new("L", film.size))
    with caplog.at_level(logging.INFO):
        pairs, _ = find_pairs(tmp_path)
    assert len(pairs) == 1
    assert "1 without a mask, 1 with lungs that cannot be told apart, 1 with pixels seen before" in caplog.text


def test_index_masks_take_their_names_from_the_list_or_the_model(tmp_path: Path) -> None:
    place(tmp_path, "a", Image.new("L", (3, 2)), index_of("012", "210"))
    assert find_pairs(tmp_path)[1] == ("class 1", "class 2")
    assert find_pairs(tmp_path, ("gas", "fluid"))[1] == ("gas", "fluid")
    (tmp_path / "classes.txt").write_text("gas\nfluid\nfree air\n")
    assert find_pairs(tmp_path)[1] == ("gas", "fluid", "free air")
    with pytest.raises(RecordError, match="the model's classes are fluid, gas"):
        find_pairs(tmp_path, ("fluid", "gas"))
    (tmp_path / "classes.txt").write_text("gas\n")
    with pytest.raises(RecordError, match=r"value 2, but the classes are 1 to 1: gas"):
        find_pairs(tmp_path)


def test_one_class_may_be_black_and_white(tmp_path: Path) -> None:
    film, mask = chest(np.random.default_rng(2))
    place(tmp_path, "a", film, mask)
    (tmp_path / "classes.txt").write_text("gas")
    pairs, classes = find_pairs(tmp_path)
    assert classes == ("gas",) and set(np.unique(pairs[0].mask).tolist()) == {0, 1}
    assert find_pairs(tmp_path, ("gas",))[1] == ("gas",)


def test_one_folder_per_class_is_stacked_and_what_two_claim_is_ignored(tmp_path: Path) -> None:
    film = Image.new("L", (4, 1))
    place(tmp_path, "a", film, Image.fromarray(np.array([[255, 255, 0, IGNORE]], np.uint8)), "fluid")
    place(tmp_path, "a", film, Image.fromarray(np.array([[0, 255, 255, 0]], np.uint8)), "gas")
    pairs, classes = find_pairs(tmp_path)
    assert classes == ("fluid", "gas") and pairs[0].mask.tolist() == [[1, IGNORE, 2, IGNORE]]
    with pytest.raises(RecordError, match="none of the model's classes"):
        find_pairs(tmp_path, ("gas",))


@pytest.mark.parametrize(
    ("mask", "sentence"),
    [
        (Image.new("L", (5, 5)), "is 5 x 5 pixels, its film 60 x 50"),
        (Image.new("RGB", (60, 50)), "is in colour"),
        (Image.new("I;16", (60, 50)), "more than 8 bits"),
        (Image.new("L", (60, 50), 9), "the value 9"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused_with_what_to_do(tmp_path: Path, mask: Image.Image, sentence: str) -> None:
    place(tmp_path, "a", chest(np.random.default_rng(3))[0], mask)
    with pytest.raises(RecordError, match=sentence):
        find_pairs(tmp_path, LUNGS)


def test_a_folder_that_cannot_teach_is_refused_with_what_to_do(tmp_path: Path, chests: Path) -> None:
    with pytest.raises(RecordError, match="images/ and masks/"):
        find_pairs(tmp_path)
    place(tmp_path, "a", chest(np.random.default_rng(4))[0], Image.new("L", (60, 50)))
    with pytest.raises(RecordError, match="a mask to use"):
        find_pairs(tmp_path)
    Image.new("I;16", (60, 50)).save(tmp_path / "images/a.png")
    with pytest.raises(RecordError, match="more than 8 bits"):
        find_pairs(tmp_path)
    (tmp_path / "images/a.png").write_bytes(b"no image")
    with pytest.raises(RecordError, match="cannot be read as an image"):
        find_pairs(tmp_path)
    pairs, _ = find_pairs(chests)
    with pytest.raises(RecordError, match="shows heart"):
        parts_of(pairs, (*LUNGS, "heart"))
    with pytest.raises(RecordError, match="stops the training"):
        parts_of([pair for pair in pairs if pair.split != "val"], LUNGS)
    with pytest.raises(RecordError, match="multiple of 4"):
        Recipe(size=30, channels=(4, 8, 16))


@given(st.integers(0, 2**31))
def test_films_and_masks_move_together(seed: int) -> None:
    mask = torch.zeros(2, 48, 48, dtype=torch.uint8)
    mask[:, 12:36, 8:24] = 1
    films, truth = deform(mask * 255, mask, 32, torch.Generator().manual_seed(seed))
    assert films.shape == (2, 1, 32, 32) and truth.shape == (2, 32, 32) and set(truth.unique().tolist()) <= {0, 1}
    assert films.min() >= 0 and films.max() <= 1
    for film, where in zip(films[:, 0], truth == 1, strict=True):
        if 20 < where.sum() < 900:
            assert film[where].median() > film[~where].median()


def test_a_window_never_teaches_what_lies_beyond_the_film() -> None:
    small = np.full((10, 90), 7, np.uint8), np.ones((10, 90), np.uint8)
    films, masks = windows([small], 32, torch.Generator().manual_seed(0))
    assert films.shape == masks.shape == (1, 32, 32)
    assert (masks[0, :10] == 1).all() and (masks[0, 10:] == IGNORE).all() and (films[0, :10] == 7).all()


class Interrupt(logging.Handler):
    """Ends the program as Ctrl-C would, in the second epoch and before it was saved."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith("epoch 2"):
            raise KeyboardInterrupt


@pytest.fixture
def interrupted() -> Iterator[logging.Handler]:
    log, handler = logging.getLogger("finetune.seg_fit"), Interrupt()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield handler
    log.removeHandler(handler)
    log.setLevel(level)


def test_a_killed_training_resumes_to_the_same_weights(chests: Path, tmp_path: Path, interrupted: logging.Handler) -> None:
    parts = parts_of(find_pairs(chests)[0], LUNGS)
    with pytest.raises(KeyboardInterrupt):
        Fit(parts, LUNGS, TINY, tmp_path / "killed").run()
    logging.getLogger("finetune.seg_fit").removeHandler(interrupted)
    resumed, whole = (Fit(parts, LUNGS, TINY, tmp_path / name).run() for name in ("killed", "whole"))
    state = resumed.model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in whole.model.state_dict().items())
    assert resumed.plan.pieces == (1, 1) and list((tmp_path / "whole/events").glob("events.out.tfevents*"))


@pytest.mark.parametrize(("crops", "classes"), [(False, LUNGS), pytest.param(True, ("lungs",), marks=pytest.mark.slow)])
def test_training_learns_what_is_easy(chests: Path, tmp_path: Path, crops: bool, classes: tuple[str, ...]) -> None:
    parts = parts_of(find_pairs(chests, classes)[0], classes)
    recipe = Recipe(size=32, epochs=20, batch=8, rate=1e-2, crops=crops, channels=(4, 8, 16))
    segmenter = Fit(parts, classes, recipe, tmp_path).run()
    found = evaluate(segmenter, parts["test"], tmp_path / "sheet.png", 20)
    assert found["dice"]["mean"] > 0.85
    assert segmenter.plan.is_cropped == crops and Image.open(tmp_path / "sheet.png").width == 1024


@pytest.mark.slow
def test_a_training_begins_from_what_another_has_learnt(chests: Path, tmp_path: Path) -> None:
    recipe = Recipe(size=32, epochs=12, batch=8, rate=1e-2, channels=(4, 8, 16))
    first, held_out = train(chests, tmp_path / "first", recipe)
    still, _ = train(chests, tmp_path / "second", replace(TINY, size=48, epochs=1, rate=1e-6), tmp_path / "first")
    dice = evaluate(still, held_out, rounds=20)["dice"]["mean"]
    assert still.plan.size == 48 and dice > 0.5 and dice > evaluate(first, held_out, rounds=20)["dice"]["mean"] - 0.2


def test_what_is_added_to_the_logits_is_what_comes_out_of_the_network() -> None:
    model, pixels = unet(2, (4, 8, 16)).eval(), torch.rand(1, 1, 32, 32)
    shift = torch.tensor([0.5, -1.0, 2.0])
    before = model(pixels)
    add_to_logits(model, shift)
    assert torch.allclose(model(pixels), before + shift.view(1, 3, 1, 1), atol=1e-5)


def test_the_commands_train_and_evaluate_a_folder(chests: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    flags = ["--size", "32", "--epochs", "1", "--batch", "16", "--json"]
    assert main(["train", "--data", str(chests), "--out", str(out), *flags]) == 0
    assert json.loads(capsys.readouterr().out)["n"] > 0
    assert main(["evaluate", "--data", str(chests), "--model", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    held_out = [pair for pair in find_pairs(chests)[0] if pair.split == "test"]
    assert found["n"] == len(held_out) and found["left_out_as_trained_on"] == 60 - len(held_out)
    assert set(found["dice"]) == {*LUNGS, "mean"} and {"iou", "hausdorff95", "intervals"} <= set(found)
    pairs, _ = find_pairs(chests)
    (out / TRAINED_ON).write_text("\n".join(pair.digest for pair in pairs))
    with pytest.raises(RecordError, match="trained on"):
        unseen(chests, out, LUNGS)
    assert main(["evaluate", "--data", str(chests), "--model", str(tmp_path / "none")]) == 2
    assert "no segmenter" in capsys.readouterr().err


def test_grades_are_what_a_person_would_count() -> None:
    truth = np.zeros((30, 40), np.uint8)
    truth[5:15, 5:15], truth[0] = 1, IGNORE
    said = np.zeros((30, 40), bool)
    said[5:15, 10:20], said[0] = True, True
    dice, iou, distance = grade([said], truth)[:, 0]
    assert (dice, iou, distance) == (pytest.approx(0.5), pytest.approx(1 / 3), pytest.approx(5 / 50))
    nothing = np.zeros_like(said)
    assert grade([nothing], truth)[:, 0].tolist() == [0, 0, 1]
    assert np.isnan(grade([nothing, nothing], truth)[:, 1]).all()
    found = summarise(np.stack([grade([said, nothing], truth)] * 2), ("a", "b"), ["p", "q"], 10)
    assert found["dice"] == {"a": pytest.approx(0.5), "b": None, "mean": pytest.approx(0.5)}
    assert found["intervals"]["dice"]["mean"] == pytest.approx((0.5, 0.5)) and found["intervals"]["dice"]["b"] is None
    assert pooled_dice(torch.tensor([0, 1, 1, 2]), torch.tensor([0, 1, 2, IGNORE]), 2) == pytest.approx((2 / 3 + 0) / 2)


def test_five_class_phantoms_show_each_class_where_the_mask_says(tmp_path: Path) -> None:
    for value, kind in enumerate(KINDS, start=1):
        film, mask = draw_abdomen(np.random.default_rng(value), kind)
        assert set(np.unique(np.asarray(mask)).tolist()) == {0, value}
        again = draw_abdomen(np.random.default_rng(value), kind)
        assert film.tobytes() == again[0].tobytes() and mask.tobytes() == again[1].tobytes()
    write_phantoms(tmp_path, 60)
    pairs, classes = find_pairs(tmp_path)
    shown = [int(pair.mask.max()) for pair in pairs]
    assert classes == KINDS and len(pairs) == 60 and shown.count(1) > 3 * shown.count(5)


def test_the_shipped_segmenter_finds_the_lungs_of_children_it_never_saw(shared_data: Path) -> None:
    segmenter = load_segmenter(SHIPPED)
    pairs, _ = unseen(shared_data / "lung_masks", SHIPPED, segmenter.classes)
    found = evaluate(segmenter, pairs[:24], rounds=0)
    assert found["dice"]["mean"] >= 0.94 and found["hausdorff95"]["mean"] <= 0.04
    assert all(segmenter.segment(pair.film()).is_two_lungs for pair in pairs[:24])
