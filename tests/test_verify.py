"""`python app.py verify`: what it measures is so, what is damaged is told, and no threshold serves another checkpoint."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tiny
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoTokenizer

from chat import closed_questions, verify
from chat.closed_questions import FEWEST_PICTURES, calibrate
from chat.engine import store
from chat.engine.base import EngineUnavailable, Message, Sampling
from chat.engine.checkpoint import Loaded, load
from chat.engine.local import LocalEngine
from chat.engine.parity import LLAMA_HEAD, check_prompt, compare_greedy
from chat.fluency import is_fluent, measure_fluency
from chat.verified import SCHEMA, VERIFIED, identity, read_verified
from chat.wording import LANGUAGES, Language
from vision.figures import COLOURS, SIZES

ROOT = Path(__file__).parents[1]
EMBEDDED = ROOT / "models" / "hilum-tiny"
PAIRS = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=12)


def copy(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target


def engine_on(folder: Path) -> tuple[LocalEngine, Loaded]:
    loaded = load(folder, "cpu", None)
    return LocalEngine(loaded), loaded


def change_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | values), "utf-8")


@pytest.fixture(scope="module")
def verified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint with random weights, sealed and verified through the door."""
    folder = tiny.build(tmp_path_factory.mktemp("verified") / "tiny")
    store.seal(folder, {"folder": "tiny"}, {path.name: store.entry(path) for path in folder.iterdir()})
    done = run_app("verify", "--quick", "--json", "--model", folder)
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout) == json.loads((folder / VERIFIED).read_text("utf-8"))
    (folder.parent / "progress.txt").write_text(done.stderr, "utf-8")
    return folder


def run_app(*arguments: object, before: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    command = [*before, sys.executable, "app.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.slow
def test_random_weights_get_no_threshold_and_are_told_so(verified: Path) -> None:
    found = read_verified(verified, engine_on(verified)[0].description)
    assert found is not None and found.has_manifest and found.is_quick
    for language in LANGUAGES:
        closed = found.closed_questions[language]
        assert closed.questions == 32 and closed.by_size.keys() == set(SIZES)
        assert closed.auc_interval[0] <= 0.5 and (closed.threshold, closed.threshold_interval) == (None, None)
    assert sum("cannot be trusted on this checkpoint" in problem for problem in found.problems) == 2
    assert not any("token" in problem for problem in found.problems), found.problems
    assert found.speed.peak_bytes > 1 << 20 and found.speed.load_seconds > 0


def test_the_file_holds_no_question_and_no_answer(verified: Path) -> None:
    told = (verified.parent / "progress.txt").read_text("utf-8")
    assert "이 그림의 배경은 어떤 색입니까?" in told and "SHA-256" in told and "minutes to go" in told
    assert not re.search("[ㄱ-힣]|\ufffd|picture", (verified / VERIFIED).read_text("utf-8"))


def test_thresholds_are_never_handed_to_another_checkpoint_or_precision(verified: Path, tmp_path: Path) -> None:
    description = engine_on(verified)[0].description
    same = copy(verified, tmp_path / "moved")
    assert read_verified(same, description) == read_verified(verified, description) is not None
    (same / "README.md").write_text("A card says nothing to a model.")
    assert read_verified(same, description) is not None
    assert read_verified(same, description | {"weights": "4-bit NF4"}) is None
    assert read_verified(same, description | {"compute": "float16"}) is None
    other = tiny.build(tmp_path / "other", seed=1)
    assert read_verified(other, description) is None
    assert read_verified(other, description, verified / VERIFIED) is None
    assert read_verified(verified, description, other / "nothing.json") is None
    change_json(same / "generation_config.json", eos_token_id=5)
    assert read_verified(same, description) is None


def test_a_large_file_is_told_apart_by_samples(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).bytes(6 << 20)
    (tmp_path / "model.safetensors").write_bytes(weights)
    before = identity(tmp_path)
    start, stop = 3 << 20, (3 << 20) + (1 << 17)
    changed = bytes(byte ^ 1 for byte in weights[start:stop])
    (tmp_path / "model.safetensors").write_bytes(weights[:start] + changed + weights[stop:])
    assert identity(tmp_path) != before


@given(
    st.binary(max_size=60) | st.recursive(st.none() | st.floats() | st.text(), st.lists, max_leaves=9).map(repr).map(str.encode)
)
@example(b"[" * 100_000)
def test_a_damaged_file_is_as_good_as_none(verified: Path, garbage: bytes) -> None:
    file = verified.parent / "garbage.json"
    file.write_bytes(garbage)
    description = {"compute": "bfloat16", "weights": "bfloat16"}
    assert read_verified(verified, description, file) is None


def test_a_changed_value_out_of_range_makes_the_file_damaged(verified: Path) -> None:
    text = (verified / VERIFIED).read_text("utf-8")
    description = engine_on(verified)[0].description
    file = verified.parent / "changed.json"
    for old, new in (
        ('"threshold": null', '"threshold": NaN'),
        ('"threshold": null', '"threshold": 1.5'),
        ('"version": 1', '"version": 2'),
    ):
        file.write_text(text.replace(old, new), "utf-8")
        assert old in text and read_verified(verified, description, file) is None
    file.write_text(text[: len(text) // 2], "utf-8")
    assert read_verified(verified, description, file) is None


def test_the_schema_says_what_a_reader_may_count_on() -> None:
    schema = SCHEMA.json_schema()
    assert {"version", "identity", "dtype", "four_bit", "closed_questions"} <= set(schema["required"])
    assert {"threshold", "auc", "by_size"} <= set(schema["$defs"]["ClosedQuestions"]["required"])


def test_tampered_weights_are_reported_and_nothing_is_written(
    verified: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy(verified, tmp_path / "tampered")
    (folder / VERIFIED).unlink()
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    assert verify.run(folder, "cpu", None, True, None, True) == 1
    out, _ = capsys.readouterr()
    (problem,) = json.loads(out)["problems"]
    assert "model.safetensors" in problem and "SHA-256" in problem
    assert not (folder / VERIFIED).exists()


def test_a_config_that_does_not_count_its_image_tokens_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tiny.build(tmp_path / "tiny")
    change_json(folder / "config.json", image_seq_length=tiny.TOKENS_PER_IMAGE + 1)
    assert verify.run(folder, "cpu", None, True, None, False) == 1
    assert "gives 16 tokens for an image and its config says 17" in capsys.readouterr().out
    assert not (folder / VERIFIED).exists()


def test_a_place_that_cannot_be_written_is_refused_before_the_minutes_of_measuring(tmp_path: Path) -> None:
    folder = tiny.build(tmp_path / "tiny")
    for out in (tmp_path / "nowhere" / "v.json", tmp_path):
        with pytest.raises(EngineUnavailable, match="--out PATH"):
            verify.run(folder, "cpu", None, True, out, False)
    with pytest.raises(EngineUnavailable, match="no checkpoint"):
        verify.run(tmp_path / "nothing", "cpu", None, True, None, False)


@pytest.mark.slow
def test_a_read_only_folder_names_the_way_out(tmp_path: Path) -> None:
    folder = tiny.build(tmp_path / "tiny")
    mount = f'mount --bind "{folder}" "{folder}" && mount -o remount,ro,bind "{folder}" && exec "$0" "$@"'
    inside = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount]
    if not shutil.which("unshare") or subprocess.run([*inside, "true"], capture_output=True, check=False).returncode:
        pytest.skip("This system allows no mounts in a namespace.")
    done = run_app("verify", "--quick", "--model", folder, before=inside)
    assert (done.returncode, done.stdout) == (2, "") and "read-only" in done.stderr and "--out PATH" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_an_address_is_refused_with_one_sentence() -> None:
    done = run_app("verify", "--model", "http://127.0.0.1:9/v1")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.strip().splitlines()) == 1 and "not an address" in done.stderr


KOREAN = {"빨간": "red", "초록색": "green", "파란": "blue", "노란": "yellow", "원": "circle", "사각형": "square"}
KOREAN |= {"삼각형": "triangle", "별": "star", "왼쪽": "left", "오른쪽": "right"}


class PixelReader:
    """A Scorer that answers from the pixels and from the words of the question: what a model that sees would say."""

    def choose(self, batch: Sequence[Sequence[Message]], options: Sequence[str]) -> NDArray[np.float32]:
        assert list(options) in (["Yes", "No"], ["예", "아니오"])
        yes = []
        for messages in batch:
            (image,) = messages[-1].images
            question = " ".join(part for part in messages[-1].parts if isinstance(part, str))
            named = {english for korean, english in KOREAN.items() if re.search(rf"\b({korean}|{english})", question)}
            yes.append(0.6 + 0.3 * (named <= self._see(image) and len(named) >= 2))
        return np.array([[p, 1 - p] for p in yes], np.float32)

    def features(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        raise NotImplementedError

    @staticmethod
    def _see(image: Image.Image) -> set[str]:
        pixels = np.asarray(image).astype(int)
        masks = {name: (np.abs(pixels - colour).sum(axis=2) < 40) for name, colour in COLOURS.items()}
        colour = max(masks, key=lambda name: masks[name].sum())
        rows, columns = np.nonzero(masks[colour])
        filled = len(rows) / (np.ptp(rows) + 1) / (np.ptp(columns) + 1)
        shares = {"square": 1.0, "circle": np.pi / 4, "triangle": 0.5, "star": 0.37}
        shape = min(shares, key=lambda name: abs(shares[name] - filled))
        return {colour, shape, "left" if columns.mean() < image.width / 2 else "right"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_questions_are_true_of_their_pictures_and_false_as_said(language: Language) -> None:
    """Whoever sees is told apart from 0.5 up: biased to yes, and still with a threshold that mends it."""
    pairs = [closed_questions.ask(PixelReader(), number, SIZES[number % 2], language) for number in range(60)]
    found = calibrate(pairs)
    assert (found.auc, found.accuracy_at_half, found.balanced_accuracy, found.questions) == (1, 0.5, 1, 120)
    assert found.yes_bias == pytest.approx(0.6) and found.threshold == pytest.approx(0.75)


@given(PAIRS)
def test_the_auc_is_that_of_counting_and_no_threshold_stands_on_chance(pairs: list[tuple[float, float]]) -> None:
    found = calibrate(pairs)
    ahead = [(true > false) + (true == false) / 2 for true, _ in pairs for _, false in pairs]
    assert found.auc == pytest.approx(sum(ahead) / len(ahead))
    low, high = found.auc_interval
    assert 0 <= low <= high <= 1
    assert (found.threshold is None) == (low <= 0.5 or len(pairs) < FEWEST_PICTURES)
    if found.threshold is not None and found.balanced_accuracy is not None:
        assert found.balanced_accuracy >= found.accuracy_at_half and 0 <= found.threshold <= 1


@pytest.mark.parametrize(
    ("true", "false", "trusted"),
    [
        (np.full(40, 0.9), np.full(40, 0.9), False),  # says yes to everything
        (np.linspace(0, 0.4, 40), np.linspace(0.6, 1, 40), False),  # says the opposite
        (np.linspace(0.8, 0.9, 40), np.linspace(0.6, 0.7, 40), True),
        (np.linspace(0.8, 0.9, 7), np.linspace(0.6, 0.7, 7), False),  # too few to tell
    ],
)
def test_only_what_tells_true_from_false_gets_a_threshold(
    true: NDArray[np.float64], false: NDArray[np.float64], trusted: bool
) -> None:
    assert (calibrate(list(zip(true, false, strict=True))).threshold is not None) == trusted


def test_fluency_tells_korean_from_what_only_looks_like_it() -> None:
    good = ["회색 배경에 빨간 삼각형이 한 개 있습니다.", "배경은 회색입니다."]
    assert is_fluent(measure_fluency(good * 2, 4))
    bad = (["The background is grey."] * 4, ["네" * 80] * 4, [""] * 4, ["배경은 \ufffd색입니다."] * 4)
    for answers in bad:
        assert not is_fluent(measure_fluency(answers, 4)), answers
    assert not is_fluent(measure_fluency(good * 2, 2))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda words: {"added_tokens": [token | {"special": False} for token in words["added_tokens"]]}, "spells a special"),
        (lambda words: {"normalizer": {"type": "NFD"}}, "does not come back"),
    ],
)
def test_a_tokenizer_that_would_mislead_the_model_is_told(damage: object, sentence: str, tmp_path: Path) -> None:
    folder = tiny.build(tmp_path / "tiny")
    assert list(check_prompt(engine_on(folder)[1])) == []
    path = folder / "tokenizer.json"
    change_json(path, **damage(json.loads(path.read_text("utf-8"))))  # type: ignore[operator]
    assert any(sentence in told for told in check_prompt(engine_on(folder)[1]))


def test_a_tokenizer_of_llamas_size_has_to_have_llamas_ids(tmp_path: Path) -> None:
    folder = tiny.build(tmp_path / "tiny")
    words = AutoTokenizer.from_pretrained(folder)
    words.add_tokens([f"<more {i}>" for i in range(32_002 - len(words))])
    words.save_pretrained(folder)
    (told,) = check_prompt(engine_on(folder)[1])
    assert "not those of LLaVA-1.5" in told and len(LLAMA_HEAD) == 35


def test_a_wrong_token_is_found_where_it_stands(tmp_path: Path) -> None:
    engine, loaded = engine_on(tiny.build(tmp_path / "tiny"))
    messages = tiny.question("Is it?", tiny.picture(1))
    ours = [token for delta in engine.stream(messages, Sampling(6, temperature=0), "a") for token in delta.ids]
    assert len(ours) == 6 and compare_greedy(loaded, messages, ours, False, 6) is None
    wrong = next(token for token in range(5, 300) if token != ours[3])
    parted = compare_greedy(loaded, messages, [*ours[:3], wrong, *ours[4:]], False, 6)
    assert parted is not None and parted.position == 3 and parted.gap > 0 and not parted.is_tie
    early = compare_greedy(loaded, messages, ours[:2], True, 6)
    assert early is not None and early.position == 2


@pytest.mark.slow
def test_the_embedded_model_answers_as_transformers_would_and_in_korean(tmp_path: Path) -> None:
    folder = copy(EMBEDDED, tmp_path / "embedded")
    verify.run(folder, "cpu", None, True, None, False)
    found = read_verified(folder, engine_on(folder)[0].description)
    assert found is not None and found.greedy_equal == 3 and is_fluent(found.korean)
    for closed in found.closed_questions.values():
        assert (closed.threshold is None) == (closed.auc_interval[0] <= 0.5)
