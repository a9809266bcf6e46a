"""The map, its checks and its peak, on tiny real classifiers, drawn films and real ones."""

import copy
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from captum.attr import LayerGradCam
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont, ImageOps
from transformers import ResNetConfig, ResNetForImageClassification, ViTConfig, ViTForImageClassification

from finetune.phantom import draw_phantom
from finetune.records import patient_of, split_of
from finetune.reference import fit, fit_limits, gradients
from finetune.samples import find_samples
from vision.burned_in import SIDE, find_burned_in
from vision.evidence import CheckpointError, Mask
from vision.lung_prior import GRID, find_lungs
from vision.reference import Baseline, Limits, Reference
from vision.resnet import Calibration, Classifier, load_classifier, squash
from vision.saliency import Saliency, explain, fine_contrast, grad_cam, join, target

LABELS = {0: "NORMAL", 1: "PNEUMONIA"}


def random_classifier(seed: int = 0, labels: dict[int, str] = LABELS) -> Classifier:
    torch.manual_seed(seed)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 24], depths=[1, 1, 1], layer_type="basic", id2label=labels)
    return Classifier(ResNetForImageClassification(config), squash(64, 0.5, 0.25), Calibration(positive="PNEUMONIA"))


@pytest.fixture(scope="module")
def bright(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    """A classifier that calls PNEUMONIA what is bright, at the place where it is bright."""
    return load_classifier(tiny.build_classifier(tmp_path_factory.mktemp("bright"), 128))


def read(classifier: Classifier, image: Image.Image, **more: object) -> Saliency:
    return explain(classifier, image, classifier.look([image]), "PNEUMONIA", **more)  # type: ignore[arg-type]


def autograd_map(classifier: Classifier, seen: np.ndarray) -> np.ndarray:
    """Selvaraju et al. (2017) word for word, for the difference of the two logits behind (channels, h, w) feature maps."""
    model, features = classifier.model, torch.from_numpy(seen).double()[None].requires_grad_(True)
    logits = copy.deepcopy(model.classifier).double()(model.resnet.pooler(features))
    (gradient,) = torch.autograd.grad(logits[0, 1] - logits[0, 0], features)
    weighted = (gradient.mean((2, 3), keepdim=True) * features).sum(1).relu()[0]
    return np.asarray((weighted / weighted.max()).detach())


@given(seed=st.integers(0, 2**31))
@settings(max_examples=10)
def test_the_closed_form_is_grad_cam(seed: int) -> None:
    classifier = random_classifier(seed)
    features = classifier.look([tiny.picture(seed)]).features[0]
    ours = grad_cam(features, target(classifier, "PNEUMONIA"))
    if ours.any():
        np.testing.assert_allclose(ours, autograd_map(classifier, features), rtol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_the_closed_form_is_what_captum_computes(seed: int) -> None:
    classifier = random_classifier(seed)
    model, pixels = classifier.model, classifier.pixels([tiny.picture(seed)])
    captum = LayerGradCam(lambda x: model(x).logits.diff(), model.resnet.encoder.stages[-1])
    theirs = torch.as_tensor(captum.attribute(pixels, 0, relu_attributions=True))[0, 0].detach().numpy()
    ours = grad_cam(classifier.see(pixels).features[0], target(classifier, "PNEUMONIA"))
    assert ours.any()
    np.testing.assert_allclose(ours, theirs / theirs.max(), rtol=1e-6, atol=1e-6)


def test_a_map_has_no_place_where_nothing_speaks_for_the_label() -> None:
    features = np.ones((4, 3, 3), np.float32)
    assert not grad_cam(features, np.full(4, -1, np.float32)).any()
    assert grad_cam(features * np.nan, np.ones(4, np.float32)).max() == 0


def test_other_weights_give_another_map() -> None:
    """Weight randomisation (Adebayo et al. 2018): a map that stays would show the film, not the classifier."""
    image, alike = tiny.picture(5), []
    for seed in range(8):
        trained, headless, stageless = (random_classifier(seed) for _ in range(3))
        torch.nn.init.normal_(headless.model.classifier[-1].weight)
        for weight in stageless.model.resnet.encoder.stages[-1].parameters():
            torch.nn.init.normal_(weight, std=0.3)
        maps = [read(each, image).heatmap.values.ravel() for each in (trained, headless, stageless)]
        alike += [np.corrcoef(maps[0], other)[0, 1] for other in maps[1:] if other.std() and maps[0].std()]
    assert len(alike) > 4 and np.median(np.abs(alike)) < 0.7


def body(x: float = 0.3, y: float = 0.5, size: tuple[int, int] = (320, 400), strength: int = 170) -> Image.Image:
    """A chest of two dark lungs, with grain, and a soft bright spot at a share of width and height."""
    across, down = np.meshgrid((np.arange(size[0]) + 0.5) / size[0], (np.arange(size[1]) + 0.5) / size[1])
    grey = 45 + 6 * np.random.default_rng(0).standard_normal(across.shape)
    for centre in (0.3, 0.7):
        grey -= 30 / (1 + np.exp(12 * (((across - centre) / 0.15) ** 2 + ((down - 0.5) / 0.33) ** 2 - 1)))
    grey += strength * np.exp(-((across - x) ** 2 + (down - y) ** 2) / 0.006)
    return Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")


@given(x=st.floats(0.2, 0.8), y=st.floats(0.2, 0.8))
@settings(max_examples=15)
def test_the_map_is_highest_where_the_classifier_was_shown_something(bright: Classifier, x: float, y: float) -> None:
    rows, columns = np.unravel_index(int(read(bright, body(x, y)).heatmap.values.argmax()), (GRID, GRID))
    assert abs((columns + 0.5) / GRID - x) < 0.04 and abs((rows + 0.5) / GRID - y) < 0.04


def test_the_map_is_not_off_by_half_a_cell(bright: Classifier) -> None:
    errors = []
    for x, y in ((x, y) for x in (0.25, 0.37, 0.5, 0.64, 0.77) for y in (0.3, 0.46, 0.61)):
        rows, columns = np.unravel_index(int(read(bright, body(x, y)).heatmap.values.argmax()), (GRID, GRID))
        errors.append(((columns + 0.5) / GRID - x, (rows + 0.5) / GRID - y))
    assert np.abs(np.mean(errors, 0)).max() < 0.012


@pytest.mark.parametrize(
    ("x", "y", "side", "zone"), [(0.3, 0.32, "right", "upper"), (0.7, 0.5, "left", "middle"), (0.3, 0.68, "right", "lower")]
)
def test_the_peak_is_named_as_on_the_patient(bright: Classifier, x: float, y: float, side: str, zone: str) -> None:
    found = read(bright, body(x, y))
    assert found.trusted and found.doubt is None and found.shares["shift"] > 0.97
    assert (found.peak.side, found.peak.zone) == (side, zone)
    box = found.peak.box
    assert box.left < x * 320 < box.right and box.top < y * 400 < box.bottom
    assert box.clipped((320, 400)) == box and max(box.size) < 200


def test_the_mirror_image_is_turned_back(bright: Classifier) -> None:
    image = body(0.3, 0.4)
    mirrored = bright.look([ImageOps.mirror(image)])
    both, one = read(bright, image, mirrored=mirrored), read(bright, image)
    assert both.peak.side == one.peak.side == "right"
    assert np.corrcoef(both.heatmap.values.ravel(), one.heatmap.values.ravel())[0, 1] > 0.95


def test_a_map_that_lies_on_a_letter_is_a_doubt(bright: Classifier) -> None:
    image = body(strength=0).point(lambda value: value // 3)
    ImageDraw.Draw(image).text((200, 150), "R", (255, 255, 255), ImageFont.load_default(60))
    found = read(bright, image)
    assert found.doubt == "marker" and not found.trusted and found.shares["marker"] > 0.9


def test_a_map_that_lies_on_a_tube_is_a_doubt(bright: Classifier) -> None:
    image = body(strength=0).point(lambda value: value // 3)
    ImageDraw.Draw(image).line([(90, 0), (110, 160), (100, 330)], (255, 255, 255), 12)
    assert read(bright, image).doubt == "marker"


def test_a_letter_elsewhere_is_no_doubt(bright: Classifier) -> None:
    image = body(0.3, 0.5)
    ImageDraw.Draw(image).text((290, 10), "R", (200, 200, 200), ImageFont.load_default(24))
    assert read(bright, image).trusted


@pytest.mark.parametrize("shade", [0, 255])
def test_a_map_that_lies_on_the_border_is_a_doubt(bright: Classifier, shade: int) -> None:
    image = ImageOps.expand(body(0.0, 0.5), 12, (shade,) * 3)
    assert read(bright, image).doubt == "border"


def test_a_map_outside_the_lungs_is_a_doubt(bright: Classifier) -> None:
    assert read(bright, body(0.5, 0.93, strength=150)).doubt in ("outside_lungs", "border")
    elsewhere = np.zeros((400, 320), bool)
    elsewhere[:60, 200:] = True
    assert read(bright, body(0.3, 0.6), lungs=[Mask("lungs", elsewhere)]).doubt == "outside_lungs"


def columns(*spans: tuple[float, float], rows: tuple[float, float] = (0.2, 0.8)) -> list[Mask]:
    """Masks on `body` from and to these shares of its width."""
    masks = []
    for start, end in spans:
        values = np.zeros((400, 320), bool)
        values[round(400 * rows[0]) : round(400 * rows[1]), round(320 * start) : round(320 * end)] = True
        masks.append(Mask("lung", values))
    return masks


def test_side_and_zone_are_of_the_lungs_that_were_found_not_of_the_image(bright: Classifier) -> None:
    image = body(0.6, 0.5)
    assert (read(bright, image).peak.side, read(bright, image).peak.zone) == ("left", "middle")
    turned = read(bright, image, lungs=columns((0.1, 0.68), (0.75, 0.95), rows=(0.44, 0.9))).peak
    assert (turned.side, turned.zone) == ("right", "upper")


def test_how_much_of_the_map_lies_in_the_lungs_is_known_with_a_mask_only(bright: Classifier) -> None:
    image = body(0.3, 0.5)
    whole, none = read(bright, image, lungs=columns((0, 0.5), (0.5, 1), rows=(0, 1))), columns((0.8, 0.9), (0.9, 1))
    assert whole.inside == pytest.approx(1) and whole.shares["outside_mask"] == 0 and whole.trusted
    away = read(bright, image, lungs=none)
    assert away.inside < 0.2 and away.shares["outside_mask"] > 0.95 and away.doubt == "outside_lungs"
    guessed = read(bright, image)
    assert guessed.inside is None and "outside_mask" not in guessed.shares and guessed.trusted


def test_a_map_of_what_a_shift_changes_is_a_doubt() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    generous = Reference({}, Limits(1, 1, 1, 0.95))
    assert read(random_classifier(3), noise, reference=generous).doubt == "unstable"


def baseline_of(classifier: Classifier, image: Image.Image) -> Baseline:
    """A baseline of one film alone."""
    both = [classifier.look([each]) for each in (image, ImageOps.mirror(image))]
    weights = target(classifier, "PNEUMONIA")
    slopes = np.stack([np.maximum(gradients(classifier, look, weights)[0], 0) for look in both])
    coarse = np.stack([np.tensordot(weights, look.features[0], 1) for look in both])
    fine = np.stack([fine_contrast(look.finer[0], slopes[n]) for n, look in enumerate(both)])
    return Baseline(coarse, slopes, fine, np.ones_like(fine))


def test_a_map_that_says_no_more_than_the_reference_is_empty(bright: Classifier) -> None:
    image = body(0.3, 0.4)
    reference = Reference({"PNEUMONIA": baseline_of(bright, image)})
    found = read(bright, image, reference=reference)
    assert found.doubt == "empty" and not found.trusted and found.peak is None
    shown = read(bright, body(0.7, 0.5), reference=reference)
    assert (shown.peak.side, shown.peak.zone) == ("left", "middle")


def test_a_baseline_of_other_shapes_is_left_out(bright: Classifier) -> None:
    image, base = body(0.3, 0.4), baseline_of(bright, body(0.7, 0.5))
    for part in ("coarse", "gradient"):
        odd = replace(base, **{part: np.concatenate([getattr(base, part)] * 2, -1)})
        found = read(bright, image, reference=Reference({"PNEUMONIA": odd}))
        np.testing.assert_array_equal(found.heatmap.values, read(bright, image).heatmap.values)


@given(seed=st.integers(0, 2**31))
@settings(max_examples=10)
def test_the_finer_map_is_layer_cam_where_the_gradient_is_the_films_own(seed: int) -> None:
    classifier, image = random_classifier(seed), tiny.picture(seed)
    look, model = classifier.look([image]), classifier.model
    maps = torch.from_numpy(look.finer).requires_grad_()
    logits = model.classifier(model.resnet.pooler(model.resnet.encoder.stages[-1](maps)))
    (gradient,) = torch.autograd.grad(logits[0, 1] - logits[0, 0], maps)
    theirs = (gradient.relu() * maps).sum(1).relu()[0].detach()
    own = gradients(classifier, look, target(classifier, "PNEUMONIA"))[0]
    np.testing.assert_allclose(fine_contrast(look.finer[0], np.maximum(own, 0)), theirs, rtol=1e-4, atol=1e-7)


def test_the_last_stage_says_where_and_the_one_before_where_in_there() -> None:
    def bump(row: int, column: int, wide: float) -> np.ndarray:
        rows, columns = np.ogrid[:GRID, :GRID]
        return np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * wide**2)).astype(np.float32)

    coarse, fine = bump(20, 20, 12), bump(24, 17, 2) + 3 * bump(50, 50, 2) + np.float32(0.01)
    joined = join([coarse, fine])
    row, column = np.unravel_index(int(joined.argmax()), joined.shape)
    assert max(abs(row - 24), abs(column - 17)) <= 1 and joined.max() == 1
    np.testing.assert_array_equal(join([coarse]), coarse)
    np.testing.assert_allclose(join([coarse, -fine]), coarse ** (6 / 7), rtol=1e-5)
    assert not join([-coarse, fine]).any() and (joined >= 0.49 * join([coarse, -fine])).all()


def test_an_architecture_without_maps_has_none() -> None:
    config = ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=32, id2label=LABELS
    )
    found = read(Classifier(ViTForImageClassification(config), squash(32, 0.5, 0.5)), body())
    assert (found.heatmap, found.trusted, found.doubt) == (None, False, "no_map")


@pytest.mark.parametrize("size", [(1, 1), (2000, 1), (1, 900), (7, 5), (64, 64)])
@pytest.mark.parametrize("shade", [0, 128, 255])
def test_an_image_without_anything_gets_no_crash_and_a_box_inside_it(
    bright: Classifier, size: tuple[int, int], shade: int
) -> None:
    found = read(bright, Image.new("RGB", size, (shade,) * 3))
    assert found.heatmap.values.shape == (GRID, GRID) and np.isfinite(found.heatmap.values).all()
    assert found.peak is None or found.peak.box.clipped(size) == found.peak.box
    assert found.trusted is (found.doubt is None)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of drawn films and a classifier's folder, with the reference made from them."""
    data, folder = tmp_path_factory.mktemp("films"), tmp_path_factory.mktemp("classifier")
    rng = np.random.default_rng(1)
    for label, strength in (("NORMAL", 0), ("PNEUMONIA", 170)):
        (data / label).mkdir()
        for number in range(30):
            x, y = rng.uniform(0.2, 0.8, 2)
            body(x, y, strength=strength + int(rng.integers(5))).save(data / label / f"person{number}{label[0]}_x.png")
    tiny.build_classifier(folder, 128)
    classifier = load_classifier(folder)
    fit(classifier, find_samples(data), 8)[0].save(folder)
    return data, folder


def test_a_reference_comes_back_as_it_was_saved(taught: tuple[Path, Path]) -> None:
    data, folder = taught
    made, facts = fit(load_classifier(folder), find_samples(data), 8)
    kept = Reference.load(folder)
    assert kept.limits == made.limits and facts["films"] == {"PNEUMONIA": 8} and kept.baselines.keys() == {"PNEUMONIA"}
    for part, values in vars(made.baselines["PNEUMONIA"]).items():
        np.testing.assert_allclose(getattr(kept.baselines["PNEUMONIA"], part), values)


def test_the_limits_lose_no_more_maps_than_they_may() -> None:
    names, rng = ("border", "marker", "outside_lungs", "shift"), np.random.default_rng(0)
    shares = [dict(zip(names, rng.random(4), strict=True)) for _ in range(500)]
    limits = fit_limits(shares)
    assert sum(s["marker"] > limits.marker for s in shares) == 20
    assert sum(s["shift"] < limits.shift for s in shares) == sum(s["border"] > limits.border for s in shares) == 10
    assert fit_limits(shares[:49]) == Limits()
    masked = [share | {"outside_mask": share["border"]} if n < 200 else share for n, share in enumerate(shares)]
    assert limits.outside_mask == Limits().outside_mask and fit_limits(masked).marker == limits.marker
    assert sum(s["outside_mask"] > fit_limits(masked).outside_mask for s in masked[:200]) == 4


def test_a_reference_of_other_weights_is_refused(taught: tuple[Path, Path], tmp_path: Path) -> None:
    tiny.build_classifier(tmp_path, 64, None)
    assert Reference.load(tmp_path) == Reference()
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"abcd")
    for name in ("saliency.json", "saliency.safetensors"):
        (tmp_path / name).write_bytes((taught[1] / name).read_bytes())
    with pytest.raises(CheckpointError, match="made with another classifier"):
        Reference.load(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"classifier": "x", "limits": {"odd": 1}}', "\xff", None])
def test_a_damaged_reference_says_what_to_run(taught: tuple[Path, Path], tmp_path: Path, text: str | None) -> None:
    shutil.copytree(taught[1], tmp_path, dirs_exist_ok=True)
    if text is None:
        (tmp_path / "saliency.safetensors").unlink()
    else:
        (tmp_path / "saliency.json").write_text(text, "latin-1")
    with pytest.raises(CheckpointError, match=r"finetune\.reference"):
        Reference.load(tmp_path)


def test_a_reference_with_a_map_that_is_no_number_or_of_no_shape_is_refused(taught: tuple[Path, Path]) -> None:
    folder, kept = taught[1], Reference.load(taught[1])
    base = kept.baselines["PNEUMONIA"]
    wrong = {
        "coarse": base.coarse * np.nan,
        "fine": base.fine[0],
        "spread": 0 * base.spread,
        "gradient": base.gradient[..., 1:],
    }
    for part, values in wrong.items():
        odd = replace(base, **{part: values})
        Reference({"PNEUMONIA": odd}).save(folder)
        with pytest.raises(CheckpointError, match="cannot be read"):
            Reference.load(folder)
    kept.save(folder)
    assert Reference.load(folder).limits == kept.limits


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def squeezed(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L").resize((SIDE, SIDE)), np.float32) / np.float32(255)


@pytest.mark.parametrize("seed", range(12))
def test_the_prior_finds_the_lungs_of_a_phantom(seed: int) -> None:
    phantom = draw_phantom(np.random.default_rng(seed))
    lungs = np.asarray(phantom.index.resize((GRID, GRID), Image.Resampling.NEAREST)) > 0
    assert dice(find_lungs(squeezed(phantom.image)).inside, lungs) > 0.6


def test_the_prior_does_not_mind_contrast_or_padding() -> None:
    film = draw_phantom(np.random.default_rng(3)).image
    plain, dark = find_lungs(squeezed(film)), find_lungs(0.4 * squeezed(film) ** 1.8 + 0.1)
    assert dice(plain.inside, dark.inside) > 0.9
    padded = find_lungs(squeezed(ImageOps.expand(film, (film.width // 4, 0, 0, film.height // 4), (0, 0, 0))))
    top, bottom, left, right = padded.film
    assert max(abs(top - 0), abs(bottom - 51), abs(left - 13), abs(right - GRID)) <= 2
    within = Image.fromarray(padded.inside[top:bottom, left:right]).resize((GRID, GRID))
    assert dice(plain.inside, np.asarray(within)) > 0.85


def test_the_prior_of_a_blank_film_is_the_mean_lungs() -> None:
    inside = find_lungs(np.full((SIDE, SIDE), 0.5, np.float32)).inside
    assert 0.2 < inside.mean() < 0.45 and inside[GRID // 2, GRID // 4] and not inside[GRID // 2, GRID // 2]


def test_the_prior_fits_real_masks_better_than_the_mean_lungs(shared_data: Path) -> None:
    masks = sorted(m for m in (shared_data / "lung_masks/masks").iterdir() if split_of(patient_of(m.name)) != "train")[:60]
    mean = find_lungs(np.full((SIDE, SIDE), 0.5, np.float32)).inside
    found, fixed = [], []
    for path in masks:
        image = next((shared_data / "lung_masks/images").glob(path.stem + ".*"))
        truth = np.asarray(Image.open(path).resize((GRID, GRID), Image.Resampling.NEAREST)) > 200
        found.append(dice(find_lungs(squeezed(Image.open(image))).inside, truth))
        fixed.append(dice(mean, truth))
    assert np.mean(found) > 0.82 and np.mean(found) > np.mean(fixed) + 0.03 and np.percentile(found, 5) > 0.68


def test_a_letter_is_burned_in_and_a_soft_spot_is_not() -> None:
    image = body(0.7, 0.4)
    assert not find_burned_in(squeezed(image)).any()
    ImageDraw.Draw(image).text((20, 20), "R", (230, 230, 230), ImageFont.load_default(40))
    found = find_burned_in(squeezed(image))
    rows, columns = np.nonzero(found)
    assert rows.size > 40 and rows.max() < 0.2 * SIDE and columns.max() < 0.25 * SIDE
    assert dice(found, find_burned_in(0.3 * squeezed(image) + 0.5)) > 0.99
    assert not find_burned_in(np.zeros((SIDE, SIDE), np.float32)).any()
