"""The U-Net: frames, areas, components, sides and folders, on tiny real networks that see what is dark."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vision.evidence import LUNGS, CheckpointError, Mask, Region
from vision.unet import CONFIG, WEIGHTS, Plan, Segmentation, Segmenter, _measure, load_segmenter, unet


class Thresholds(torch.nn.Module):
    """A network whose class 1 is what is darker than mid-grey, class 2 what is nearly white."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(20.0))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.cat([0 * pixels, -self.scale * pixels, self.scale * (pixels - 1.6)], 1)


def segmenter(size: int = 64, **fields: object) -> Segmenter:
    return Segmenter(Thresholds(), Plan(LUNGS, size, **fields))  # type: ignore[arg-type]


def film(size: tuple[int, int], *boxes: tuple[int, int, int, int], shade: int = 0) -> Image.Image:
    """A grey film with dark boxes (left, top, right, bottom)."""
    image = Image.new("L", size, 180)
    for box in boxes:
        image.paste(shade, box)
    return image


def tiny(classes: tuple[str, ...] = LUNGS, size: int = 32) -> Segmenter:
    torch.manual_seed(0)
    return Segmenter(unet(len(classes), (4, 8, 16)), Plan(classes, size, (4, 8, 16)))


@settings(max_examples=30)
@given(width=st.integers(24, 400), height=st.integers(24, 400), data=st.data())
def test_masks_and_boxes_are_in_the_pixels_of_the_study(width: int, height: int, data: st.DataObject) -> None:
    left, top = data.draw(st.integers(0, width // 3)), data.draw(st.integers(0, height // 3))
    right, bottom = data.draw(st.integers(2 * width // 3, width)), data.draw(st.integers(2 * height // 3, height))
    found = segmenter().segment(film((width, height), (left, top, right, bottom)))
    region = found.regions[0]
    assert region.mask.values.shape == (height, width) and region.mask.values.dtype == bool
    assert region.box is not None and found.probabilities.shape == (2, 64, 64)
    near = 1.5 * max(width, height) / 64 + 1
    edges = region.box.left - left, region.box.top - top, region.box.right - right, region.box.bottom - bottom
    assert all(abs(edge) <= near for edge in edges)
    rows, columns = region.mask.values.nonzero()
    assert (region.box.left, region.box.bottom) == (columns.min(), rows.max() + 1)


def test_an_area_in_cm2_needs_the_pixel_spacing() -> None:
    image = film((128, 64), (0, 0, 64, 64))
    assert segmenter().segment(image).regions[0].area_cm2 is None
    region = segmenter().segment(image, spacing=(2.0, 0.5)).regions[0]
    assert region.area_cm2 == pytest.approx(64 * 64 * 2.0 * 0.5 / 100, rel=0.03)
    assert region.share == pytest.approx(0.5, abs=0.02)


def test_the_right_of_the_patient_is_at_the_left_of_the_image() -> None:
    assert segmenter().segment(film((100, 80), (5, 20, 30, 60))).regions[0].side == "right"
    assert segmenter().segment(film((100, 80), (70, 20, 95, 60))).regions[0].side == "left"


def test_a_class_that_is_nowhere_has_no_box_and_no_side() -> None:
    found = segmenter().segment(film((90, 70)))
    for region in found.regions:
        assert (region.share, region.components, region.box, region.side) == (0.0, 0, None, None)


def test_crumbs_beyond_what_training_ever_showed_are_dropped() -> None:
    image = film((128, 128), (10, 10, 60, 60), (80, 80, 100, 100), (110, 20, 118, 28))
    assert segmenter().segment(image).regions[0].components == 3
    kept = segmenter(pieces=(2, 1)).segment(image).regions[0]
    assert kept.components == 2 and not kept.mask.values[20:28, 110:118].any() and kept.mask.values[90, 90]


def test_a_film_larger_than_the_windows_is_read_at_its_own_scale_only_when_trained_so() -> None:
    image = film((300, 200), (20, 20, 22, 180))  # a line that squashing to 32 pixels loses
    assert segmenter(32).segment(image).probabilities.shape == (2, 32, 32)
    cropped = segmenter(32, is_cropped=True).segment(image)
    assert cropped.probabilities.shape == (2, 200, 300)
    assert cropped.regions[0].box is not None and cropped.regions[0].box.size == (2, 160)
    small = segmenter(32, is_cropped=True).segment(film((20, 12), (0, 0, 5, 12)))
    assert small.masks[0].values.shape == (12, 20) and small.masks[0].values[:, :5].all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_an_image_of_any_mode_and_the_smallest_size_is_read(mode: str) -> None:
    found = tiny().segment(Image.new(mode, (8, 9)))
    assert all(mask.values.shape == (9, 8) for mask in found.masks)


def test_a_huge_film_gets_a_mask_of_its_own_size() -> None:
    found = segmenter().segment(film((5000, 3000), (0, 0, 2500, 3000)))
    assert found.masks[0].values.shape == (3000, 5000)
    assert found.regions[0].share == pytest.approx(0.5, abs=0.01)


def lungs(right: tuple[int, int], left: tuple[int, int]) -> Segmentation:
    """Two lungs as columns from and to, of 100."""
    masks = []
    for label, (start, end) in zip(LUNGS, (right, left), strict=True):
        values = np.zeros((50, 100), bool)
        values[:, start:end] = True
        masks.append(Mask(label, values))
    return Segmentation(tuple(_measure(mask, 1, None) for mask in masks), np.zeros((2, 4, 4), np.float32))


def test_two_lungs_are_told_from_what_is_none() -> None:
    assert lungs((10, 40), (60, 90)).is_two_lungs
    assert not lungs((60, 90), (10, 40)).is_two_lungs  # on the wrong sides
    assert not lungs((0, 45), (55, 100)).is_two_lungs  # more than any film's
    assert not lungs((10, 13), (60, 63)).is_two_lungs  # hardly anything
    assert not lungs((10, 40), (60, 64)).is_two_lungs  # one a sliver
    assert not lungs((10, 40), (60, 60)).is_two_lungs  # one missing
    other = Region(Mask("gas", np.ones((4, 4), bool)), 0.3, 1)
    assert not Segmentation((other,), np.zeros((1, 4, 4), np.float32)).is_two_lungs


def test_a_saved_segmenter_says_the_same_with_its_own_classes(tmp_path: Path) -> None:
    model = tiny(("gas", "fluid", "free air"))
    model.save(tmp_path)
    read = load_segmenter(tmp_path)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 50), np.uint8))
    assert read.classes == ("gas", "fluid", "free air") and read.plan == model.plan
    assert np.abs(read.probabilities(noise) - model.probabilities(noise)).max() < 1e-2  # weights are kept in 16 bits
    assert {p.dtype for p in read.model.parameters()} == {torch.float32}


def test_a_missing_or_damaged_segmenter_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no segmenter"):
        load_segmenter(tmp_path / "nowhere")
    tiny().save(tmp_path)
    plan, weights = json.loads((tmp_path / CONFIG).read_text()), (tmp_path / WEIGHTS).read_bytes()
    for broken in ("", "[]", "{}", json.dumps({**plan, "classes": ["one"]}), json.dumps({**plan, "channels": [4, 8]}),
                   json.dumps({**plan, "pieces": [1]}), json.dumps({**plan, "more": 1})):  # fmt: skip
        (tmp_path / CONFIG).write_text(broken)
        with pytest.raises(CheckpointError, match="cannot be read"):
            load_segmenter(tmp_path)
    (tmp_path / CONFIG).write_text(json.dumps(plan))
    for content in (b"", weights[: len(weights) // 2]):
        (tmp_path / WEIGHTS).write_bytes(content)
        with pytest.raises(CheckpointError, match="cannot be read"):
            load_segmenter(tmp_path)
