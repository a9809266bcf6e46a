"""The domain check: what it refuses before the classifier speaks, and how it is fitted; tiny real networks, drawn films.

The sets that it was measured on are `benchmarks/domain.py`'s.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter, ImageOps
from safetensors.numpy import save_file
from transformers import ResNetConfig, ResNetForImageClassification

from finetune import outliers
from finetune.classifier import SHIPPED
from finetune.domain import OUTLIERS, Material, gather, looks, main, pictures
from finetune.records import RecordError
from finetune.scenes import draw_scene
from vision.domain import CLASSES, FACTS, FILMS, WEIGHTS, Domain
from vision.evidence import CheckpointError
from vision.resnet import Classifier, Look, load_classifier, squash
from vision.study import Study


def draw_chest(number: int, is_adult: bool = False) -> Image.Image:
    """A light trunk with two dark lungs below a neck, in grain; an adult's lungs are long and its trunk is dark."""
    rng = np.random.default_rng(number)
    picture = Image.new("L", (64, 64), 10)
    pen = ImageDraw.Draw(picture)
    pen.rectangle((8, 14, 56, 64), fill=int(rng.integers(110, 140) if is_adult else rng.integers(190, 220)))
    pen.rectangle((27, 0, 37, 14), fill=170)
    for left in (13, 36):
        pen.ellipse((left, 18, left + 15, 60 if is_adult else 46), fill=int(rng.integers(30, 60)))
    grey = np.asarray(picture.filter(ImageFilter.GaussianBlur(1)), np.float32) + rng.normal(0, 4, (64, 64))
    return Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")


def write_films(folder: Path, numbers: range, is_adult: bool = False) -> None:
    folder.mkdir(parents=True)
    for number in numbers:
        draw_chest(number, is_adult).save(folder / f"person{number}_virus_1.png")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A tiny classifier's folder with a check fitted by the command, and the command's flags."""
    root = tmp_path_factory.mktemp("domain")
    for label, first in (("NORMAL", 0), ("PNEUMONIA", 50)):
        write_films(root / "films" / label, range(first, first + 50))
    write_films(root / "adults", range(1000, 1050), is_adult=True)
    torch.manual_seed(0)
    config = ResNetConfig(layer_type="basic", embedding_size=8, depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16])
    Classifier(ResNetForImageClassification(config), squash(64, 0.5, 0.25)).save(root / "model")
    flags = ["--data", str(root / "films"), "--adults", str(root / "adults"), "--model", str(root / "model")]
    assert main(["fit", *flags]) == 0
    return root / "model", flags


def verdicts(folder: Path, images: list[Image.Image]) -> list[tuple[bool, bool, str | None]]:
    domain = Domain.load(folder)
    assert domain
    seen = looks(load_classifier(folder), (("", image) for image in images))
    found = [domain.judge(Study(image), look) for _, image, look in seen]
    return [(v.in_domain, v.in_population, v.reason) for v in found]


@pytest.mark.slow
def test_a_film_of_an_unseen_patient_is_let_through(fitted: tuple[Path, list[str]]) -> None:
    assert verdicts(fitted[0], [draw_chest(n) for n in range(500, 510)]).count((True, True, None)) >= 9


def test_an_adults_film_is_a_film_of_another_population(fitted: tuple[Path, list[str]]) -> None:
    found = verdicts(fitted[0], [draw_chest(n, is_adult=True) for n in range(2000, 2010)])
    assert found.count((True, False, "adult")) >= 9


def test_a_negative_and_a_turned_film_are_refused_by_name(fitted: tuple[Path, list[str]]) -> None:
    films = [draw_chest(n) for n in range(500, 510)]
    assert verdicts(fitted[0], [ImageOps.invert(f) for f in films]).count((False, False, "inverted")) >= 9
    assert verdicts(fitted[0], [f.transpose(Image.Transpose.ROTATE_180) for f in films]).count((False, False, "turned")) >= 9


def test_grey_scenes_are_no_films(fitted: tuple[Path, list[str]]) -> None:
    scenes = [draw_scene(np.random.default_rng([9, n])).image.convert("L").convert("RGB") for n in range(20)]
    assert sum(not is_film for is_film, _, _ in verdicts(fitted[0], scenes)) >= 19


def test_the_command_measures_what_it_fitted(fitted: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", *fitted[1]]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"film", "treated", "adult", "adult_treated", *OUTLIERS}
    assert found["film"]["refused"] < 0.1 < 0.9 < found["inverted"]["refused"]
    assert found["adult"]["flagged"] > 0.8


def test_a_check_without_its_own_classifier_is_refused(fitted: tuple[Path, list[str]], tmp_path: Path) -> None:
    for file in fitted[0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(CheckpointError, match="another classifier"):
        Domain.load(tmp_path)


@pytest.mark.parametrize("damage", ["no facts", "no weights", "cut", "no number", "nan", "other classes", "a list"])
def test_a_damaged_check_says_how_to_get_another(fitted: tuple[Path, list[str]], tmp_path: Path, damage: str) -> None:
    for file in fitted[0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    match damage:
        case "no facts":
            (tmp_path / FACTS).unlink()
        case "no weights":
            (tmp_path / WEIGHTS).unlink()
        case "cut":
            (tmp_path / WEIGHTS).write_bytes((tmp_path / WEIGHTS).read_bytes()[:100])
        case "no number":
            (tmp_path / FACTS).write_text('{"film": "much", "population": 0, "classifier": ""}')
        case "nan":
            facts = json.loads((tmp_path / FACTS).read_text())
            (tmp_path / FACTS).write_text(json.dumps(facts | {"film": float("nan")}))
        case "other classes":
            save_file({"weight": np.zeros((2, 9), np.float32), "bias": np.zeros(2, np.float32)}, tmp_path / WEIGHTS)
        case "a list":
            (tmp_path / FACTS).write_text("[]")
    with pytest.raises(CheckpointError, match=r"finetune\.domain fit"):
        Domain.load(tmp_path)


def test_a_classifier_may_come_without_a_check(tmp_path: Path) -> None:
    assert Domain.load(tmp_path) is None


def test_too_few_adults_are_one_clear_sentence(
    fitted: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", *fitted[1], "--adults", str(tmp_path)]) == 2
    assert "too few adults" in capsys.readouterr().err
    with pytest.raises(RecordError, match="too few adults"):
        gather(fitted[0].parent / "films", tmp_path / "absent", 10)


LOOK = Look(np.zeros((1, 2), np.float32), None, np.zeros((1, 4), np.float32), np.zeros((1, 4), np.float32))
OPEN = Domain(np.zeros((len(CLASSES), 4 + 256), np.float32), np.zeros(len(CLASSES), np.float32), -9.0, -9.0)


@given(tint=st.tuples(*[st.integers(150, 255)] * 3), dark=st.tuples(*[st.integers(0, 40)] * 3), number=st.integers(0, 5))
def test_a_tint_does_not_make_a_film_colourful(tint: tuple[int, ...], dark: tuple[int, ...], number: int) -> None:
    film = ImageOps.colorize(draw_chest(number).convert("L"), dark, tint)
    assert OPEN.judge(Study(film), LOOK).reason is None


@given(shade=st.tuples(*[st.integers(0, 255)] * 3), size=st.tuples(*[st.integers(8, 300)] * 2))
def test_one_colour_is_blank(shade: tuple[int, int, int], size: tuple[int, int]) -> None:
    assert OPEN.judge(Study(Image.new("RGB", size, shade)), LOOK).reason == "blank"


def test_bands_of_colour_are_no_film_even_where_they_are_equally_bright() -> None:
    bands = np.zeros((60, 60, 3), np.uint8)
    bands[:20, :, 0] = bands[20:40, :, 1] = bands[40:, :, 2] = 120
    assert OPEN.judge(Study(Image.fromarray(bands)), LOOK).reason == "colour"


@pytest.mark.parametrize(("modality", "view"), [("CT", None), ("US", "PA"), ("CR", "LL"), ("DX", "lateral")])
def test_a_header_that_names_another_view_is_believed(modality: str, view: str | None) -> None:
    assert OPEN.judge(Study(draw_chest(0), modality=modality, view=view), LOOK).reason == "other_view"


@given(seed=st.integers(0, 2**32 - 1))
def test_the_score_is_the_log_odds_of_a_film(seed: int) -> None:
    rng = np.random.default_rng(seed)
    domain = Domain(rng.normal(size=(6, 5)).astype(np.float32), rng.normal(size=6).astype(np.float32), 0.0, 0.0)
    rows = rng.normal(size=(3, 5)).astype(np.float32)
    powers = np.exp((rows @ domain.weight.T + domain.bias).astype(np.float64))
    films, others = powers[:, :FILMS].sum(1), powers[:, FILMS:].sum(1)
    odds, population, kinds = domain.scores(rows)
    assert np.allclose(odds, np.log(films / others), atol=1e-4)
    assert np.allclose(population, np.log(powers[:, 0] / powers[:, 1]), atol=1e-4)
    assert (kinds == powers[:, FILMS:].argmax(1)).all()


def test_a_classifier_without_stages_cannot_be_checked() -> None:
    with pytest.raises(CheckpointError, match="ResNet"):
        OPEN.judge(Study(draw_chest(0)), Look(LOOK.logits, None, LOOK.embedding))


def test_pictures_depend_on_nothing_but_the_seed(tmp_path: Path) -> None:
    write_films(tmp_path / "films", range(4))
    paths = sorted((tmp_path / "films").iterdir())
    runs = [[(kind, image.tobytes()) for kind, image in pictures(Material(paths, [], seed))] for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]
    assert {kind for kind, _ in runs[0]} == {"film", "treated", *OUTLIERS}


@given(seed=st.integers(0, 2**32 - 1))
def test_a_turned_or_scattered_film_is_not_the_film(seed: int) -> None:
    film = draw_chest(seed % 1000)
    for change in (outliers.turn, outliers.scatter):
        changed = change(film, np.random.default_rng(seed)).resize(film.size)
        assert np.abs(np.asarray(changed, float) - np.asarray(film, float)).mean() > 10


@pytest.mark.skipif(not (SHIPPED / WEIGHTS).exists(), reason="No domain check ships yet.")
def test_the_shipped_check_keeps_real_films_and_refuses_insulators(shared_data: Path) -> None:
    films = gather(shared_data / "kermany224/train", shared_data / "vqa_rad/images", 40)["test"]
    seen = [Image.open(path).convert("RGB") for path in films.films]
    assert sum(is_film for is_film, _, _ in verdicts(SHIPPED, seen)) >= 38
    others = [Image.open(path).convert("RGB") for path in sorted((shared_data / "insulators").rglob("*.jpg"))]
    assert not any(is_film for is_film, _, _ in verdicts(SHIPPED, others))
