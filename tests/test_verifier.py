"""The verifier: the same thing is told from others, whatever its colours; and how it is taught."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from sklearn.metrics import roc_auc_score

from benchmarks.search_scenes import draw_case
from chat.ui.words import explain
from finetune import verifier
from finetune.pairs import draw_hunted, draw_laid
from finetune.progress import Progress
from finetune.verifier import Recipe, Training, varied
from vision.edges import foreground
from vision.evidence import CheckpointError
from vision.matching import CLOSELY, Match, find_matches, lay_over, verify
from vision.search import shared
from vision.tiling import Box
from vision.verifier import SIDE, WAYS, WEIGHTS, Verifier, as_tensor, load_verifier

SMALL = Recipe(laid=11, hunted=11, steps=4, batch=16)
FLAGS = [word for name in ("laid", "hunted", "steps", "batch") for word in (f"--{name}", str(getattr(SMALL, name)))]


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a whole run of the command leaves, with few drawings and steps."""
    folder = tmp_path_factory.mktemp("taught")
    assert verifier.main(["--out", str(folder), *FLAGS]) == 0
    return folder


def test_it_tells_things_that_it_has_not_seen() -> None:
    pairs = [pair for seed in range(40) for pair in draw_laid(np.random.default_rng([99, seed]))]
    said = load_verifier().compare([(one, other) for one, other, _ in pairs])
    assert roc_auc_score([same for *_, same in pairs], said) > 0.9


def test_the_right_place_stands_out_among_those_that_the_matcher_finds() -> None:
    for seed in (0, 4, 5):
        case = draw_case(np.random.default_rng([9, seed]), (900, 600), True)
        *_, (_, places) = find_matches(case.image, case.reference)
        assert case.target is not None
        assert shared(max(places, key=lambda place: place.alike).box, case.target) > 0.5


def test_light_and_contrast_change_nothing() -> None:
    pairs = [(one, other) for seed in range(3) for one, other, _ in draw_laid(np.random.default_rng([98, seed]))]
    both = [as_tensor(pictures) for pictures in zip(*pairs, strict=True)]
    with torch.inference_mode():
        usual, darker = load_verifier()(*both), load_verifier()(both[0] * 0.5, both[1] * 0.6 + 0.3)
    assert torch.allclose(usual, darker, atol=1.5)


def test_judged_in_every_way_it_does_not_matter_how_both_are_turned() -> None:
    pairs = [(one, other) for seed in range(3) for one, other, _ in draw_laid(np.random.default_rng([97, seed]))]
    turns = (None, *Image.Transpose)
    turned = [[(a.transpose(t), b.transpose(t)) if t is not None else (a, b) for a, b in pairs] for t in turns]
    singly = np.array([load_verifier().compare(each) for each in turned])
    closely = np.array([load_verifier().compare(each, len(WAYS)) for each in turned])
    assert len(turns) == len(WAYS) == 8 and np.ptp(singly, axis=0).max() > 0.5
    np.testing.assert_allclose(closely, np.broadcast_to(singly.mean(0), closely.shape), atol=1e-3)


def test_only_the_likeliest_places_are_judged_in_every_way() -> None:
    case = draw_case(np.random.default_rng([9, 0]), (900, 600), True)
    *_, (_, places) = find_matches(case.image, case.reference, is_verified=False)
    thing, judged = foreground(case.reference), {}
    for ways in (1, len(WAYS)):
        judged[ways] = load_verifier().compare([lay_over(case.image, thing, place) for place in places], ways)
    order = sorted(range(len(places)), key=lambda k: -judged[1][k])
    wanted = {places[k].box: judged[len(WAYS) if n < CLOSELY else 1][k] for n, k in enumerate(order)}
    assert len(places) > 2 * CLOSELY
    found = verify(case.image, thing, places)
    assert {place.box: pytest.approx(place.alike, abs=1e-3) for place in found} == wanted
    assert [place.alike for place in found] == sorted((place.alike for place in found), reverse=True)


@pytest.mark.parametrize("turn", [0.0, 14.0, -20.0])
def test_what_is_laid_over_a_place_covers_it(turn: float) -> None:
    """A thing stands in the image turned: the reference is turned as far, to the same size and place."""
    thing = Image.new("RGB", (120, 80), "white")
    ImageDraw.Draw(thing).polygon([(10, 70), (60, 5), (110, 70)], fill="black")
    image = Image.new("RGB", (400, 300), "white")
    image.paste(thing.resize((60, 40)).rotate(turn, expand=True, fillcolor="white"), (200, 100))
    across, down = thing.resize((60, 40)).rotate(turn, expand=True).size
    x, y = 200 + across // 2, 100 + down // 2
    shown, place = lay_over(image, thing, Match(Box(x - 30, y - 20, x + 30, y + 20), 1.0, turn=turn))
    assert shown.size == place.size == (SIDE, SIDE)
    ink = [np.asarray(picture.convert("L")) < 128 for picture in (shown, place)]
    assert (ink[0] & ink[1]).sum() > 0.85 * (ink[0] | ink[1]).sum()


@pytest.mark.parametrize("trouble", ["missing", "cut off", "another"])
def test_weights_that_cannot_be_read_are_one_sentence_in_both_languages(tmp_path: Path, trouble: str) -> None:
    if trouble == "cut off":
        Verifier().save(tmp_path)
        (tmp_path / WEIGHTS).write_bytes((tmp_path / WEIGHTS).read_bytes()[:5000])
    elif trouble == "another":
        save_file({"see.0.0.weight": torch.zeros(3)}, tmp_path / WEIGHTS)
    with pytest.raises(CheckpointError, match="missing or damaged") as caught:
        load_verifier(tmp_path)
    assert explain(caught.value, "en") == str(caught.value)
    assert "손상" in explain(caught.value, "ko") and tmp_path.name in explain(caught.value, "ko")


def test_laid_pairs_hold_one_right_one_and_hunted_ones_at_most_one() -> None:
    laid = [draw_laid(np.random.default_rng([97, seed])) for seed in range(12)]
    assert sum(map(bool, laid)) > 6 and all(
        [same for *_, same in pairs] == [True, False, False, False] for pairs in laid if pairs
    )
    hunted = [draw_hunted(np.random.default_rng([97, seed])) for seed in range(4)]
    assert all(sum(same for *_, same in pairs) <= 1 for pairs in hunted) and any(same for pairs in hunted for *_, same in pairs)
    again = draw_laid(np.random.default_rng([97, 0]))
    assert [one.tobytes() for one, *_ in again] == [one.tobytes() for one, *_ in laid[0]]


def test_a_pair_is_varied_together_but_coloured_apart() -> None:
    torch.manual_seed(0)
    pictures = torch.zeros(40, SIDE, SIDE, 3, dtype=torch.uint8)
    pictures[:, :20, :30] = 255
    references, places = varied(pictures, pictures)
    assert references.shape == places.shape == (40, 3, SIDE, SIDE)
    edges = [(each.mean(1).diff(dim=1).abs().amax(2) > 0.2).float() for each in (references, places)]
    alike = [float(torch.stack([edges[0], edges[1].roll(step, 1)]).amin(0).sum()) for step in range(-2, 3)]
    assert max(alike) > 0.8 * float(edges[0].sum())
    assert not torch.allclose(references, places, atol=0.2)


def test_the_command_goes_on_without_drawing_again_measures_and_installs(
    taught: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = {path: path.stat().st_mtime_ns for path in (taught / "pairs").iterdir()}
    assert verifier.main(["--out", str(taught), "--install", str(tmp_path / "kept"), *FLAGS]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"laid", "hunted"} and all(0 <= each["auc"] <= 1 for each in found.values())
    assert drawn == {path: path.stat().st_mtime_ns for path in (taught / "pairs").iterdir()}
    assert (tmp_path / "kept" / WEIGHTS).read_bytes() == (taught / WEIGHTS).read_bytes()
    assert len(load_verifier(tmp_path / "kept").compare([(Image.new("RGB", (SIDE, SIDE)),) * 2])) == 1


@pytest.mark.slow
def test_many_drawings_are_shared_out_among_the_cores_and_stay_the_same(
    taught: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifier.os, "cpu_count", lambda: 1)
    shared_out = verifier.draw(tmp_path, SMALL)
    for kind, drawn in verifier.draw(taught, SMALL).items():
        assert np.array_equal(drawn.places, shared_out[kind].places) and np.array_equal(drawn.same, shared_out[kind].same)


def test_too_few_drawings_are_refused_before_anything_is_taught(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verifier.main(["--out", str(tmp_path), "--laid", "1", "--hunted", "1"]) == 2
    assert "too few drawings" in capsys.readouterr().err and not (tmp_path / WEIGHTS).exists()


def test_a_killed_training_goes_on_to_the_same_weights(taught: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(SMALL, steps=6)
    drawn = verifier.draw(taught, recipe)
    (tmp_path / "whole").mkdir()
    whole = Training(drawn, recipe, tmp_path / "whole").run()
    monkeypatch.setattr(verifier, "KEEP_EVERY", 2)
    save = Progress.save

    def save_and_die(self: Progress, done: int) -> None:
        save(self, done)
        if done == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        Training(drawn, recipe, tmp_path).run()
    monkeypatch.setattr(Progress, "save", save)
    resumed = Training(drawn, recipe, tmp_path).run()
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True))
