"""What a local engine owes to search and to closed questions: probabilities of options, and what the tower sees."""

from collections.abc import Sequence
from pathlib import Path

import engines
import numpy as np
import pytest
import tiny
import torch
from engines import ASKED, PICTURE, Subject, ids, reading
from PIL import Image

from chat.engine.base import Message, OutOfMemory
from chat.engine.checkpoint import load
from chat.engine.local import LocalEngine
from chat.prompt import encode


@pytest.fixture(scope="module", params=engines.PRECISIONS)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> engines.Subject:
    return engines.build(tmp_path_factory.mktemp("engine"), request.param)


@pytest.fixture
def engine(subject: engines.Subject) -> LocalEngine:
    return subject.engine


def log_probability(subject: Subject, messages: Sequence[Message], option: str) -> float:
    """The reference for `choose`: prompt and option in one forward pass without a cache."""
    loaded = subject.loaded
    encoded = encode(messages, loaded.tokenizer, loaded.image_token_id, loaded.tokens_per_image)
    choice = loaded.tokenizer.encode(option, add_special_tokens=False)
    pixels = loaded.image_processor(images=list(encoded.images), return_tensors="pt")["pixel_values"].to(loaded.dtype)
    with torch.inference_mode():
        logits = loaded.model(input_ids=torch.tensor([[*encoded.ids, *choice]]), pixel_values=pixels).logits[0].float()
    logs = logits.log_softmax(-1)[len(encoded.ids) - 1 : -1]
    return float(logs[range(len(choice)), choice].sum())


def test_choose_weighs_every_token_of_every_option(engine: LocalEngine, subject: Subject) -> None:
    options = ["Yes", "No", "아니오", "예, 보입니다"]
    batch = [tiny.question(f"Is it {i}?", tiny.picture(i)) for i in range(3)]
    expected = torch.tensor([[log_probability(subject, messages, option) for option in options] for messages in batch])
    got = engine.choose(batch, options)
    assert got.dtype == np.float32
    assert got.sum(axis=1) == pytest.approx(1, abs=1e-5)
    # bf16 and 4-bit kernels differ in the last bits with the number of rows
    tolerance = 1e-3 if subject.loaded.dtype == torch.float32 else 0.1
    assert got == pytest.approx(expected.softmax(-1).numpy(), abs=tolerance)


def test_choose_does_not_depend_on_the_company(engine: LocalEngine) -> None:
    batch = [tiny.question("Is it?", tiny.picture(i)) for i in range(3)]
    together = engine.choose(batch, ["Yes", "No"])
    assert together.tolist() == [engine.choose([messages], ["Yes", "No"])[0].tolist() for messages in batch]
    assert together[:, ::-1].tolist() == engine.choose(batch, ["No", "Yes"]).tolist()
    assert engine.choose([], ["Yes", "No"]).shape == (0, 2)


PLAIN_BATCH = [tiny.question(f"Is it{' so' * i}?", tiny.picture(i)) for i in range(5)]
COMPARED_BATCH = [tiny.question("The same?", PICTURE, tiny.picture(i)) for i in range(5)]
UNLIKE_BATCH = [tiny.question("?" * (i + 1), *map(tiny.picture, range(i, 2 * i))) for i in range(5)]
OPTIONS = ["Yes", "아니오", "예, 보입니다"]


@pytest.mark.parametrize("batch", [PLAIN_BATCH, COMPARED_BATCH, UNLIKE_BATCH], ids=["one image", "a reference", "unlike"])
def test_several_prompts_in_one_pass_are_weighed_as_one_at_a_time(
    engine: LocalEngine, subject: Subject, batch: list[tuple[Message, ...]]
) -> None:
    """Of equal and of unequal length, with options of one token and of several, behind a shared picture and alone."""
    alone = engine.choose(batch, OPTIONS)
    for at_once in (2, 5):
        with reading(subject.loaded.model) as read:
            together = LocalEngine(subject.loaded, at_once=at_once).choose(batch, OPTIONS)
        several = sum(len(subject.loaded.tokenizer.encode(option, add_special_tokens=False)) > 1 for option in OPTIONS)
        shared = batch is COMPARED_BATCH
        assert batch is UNLIKE_BATCH or len(read) == -(-5 // at_once) * (1 + several) + shared
        tolerance = 1e-4 if subject.loaded.dtype == torch.float32 else 0.1
        assert together == pytest.approx(alone, abs=tolerance)
        if subject.loaded.dtype == torch.float32:
            assert (together.argmax(1) == alone.argmax(1)).all()


@pytest.mark.parametrize("room", [3, 1, 0])
def test_a_device_that_holds_fewer_prompts_is_given_fewer(subject: Subject, room: int) -> None:
    """Out of memory for more than `room` rows: halved until it fits, else refused; who asks next is served."""
    rows: list[int] = []

    def fill(_: torch.nn.Module, __: object, given: dict[str, torch.Tensor]) -> None:
        if given["inputs_embeds"].shape[1] < 4:  # an option, behind a prompt that passed
            return
        rows.append(len(given["inputs_embeds"]))
        if rows[-1] > room:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    engine = LocalEngine(subject.loaded, at_once=4)
    expected = engine.choose(PLAIN_BATCH, ["Yes", "No"])
    hook = subject.loaded.model.model.language_model.register_forward_pre_hook(fill, with_kwargs=True)
    try:
        if room:
            found = engine.choose(PLAIN_BATCH, ["Yes", "No"])
            assert found == pytest.approx(expected, abs=1e-4 if subject.loaded.dtype == torch.float32 else 0.1)
        else:
            with pytest.raises(OutOfMemory):
                engine.choose(PLAIN_BATCH, ["Yes", "No"])
    finally:
        hook.remove()
    assert rows == {3: [4, 2, 2, 1], 1: [4, 2, 1, 1, 1, 1, 1], 0: [4, 2, 1]}[room]
    assert engine.choose(PLAIN_BATCH, ["Yes", "No"]).tolist() == expected.tolist()


def test_features_are_what_the_projector_reads(engine: LocalEngine, subject: Subject) -> None:
    images = [tiny.picture(i) for i in range(3)]
    got = engine.features(images)
    assert (got.shape, got.dtype) == ((3, tiny.TOKENS_PER_IMAGE, 64), np.float32)
    model = subject.loaded.model
    pixels = subject.loaded.image_processor(images=images, return_tensors="pt")["pixel_values"].to(subject.loaded.dtype)
    with torch.inference_mode():
        projected = model.model.multi_modal_projector(torch.from_numpy(got).to(subject.loaded.dtype))
        expected = torch.stack(list(model.get_image_features(pixel_values=pixels).pooler_output))
    assert torch.equal(projected, expected)
    assert engine.features([]).shape == (0, tiny.TOKENS_PER_IMAGE, 64)


@pytest.mark.parametrize(("strategy", "layer", "shape"), [("full", -1, (17, 64)), ("default", [-1, -2], (16, 128))])
def test_features_follow_the_config(strategy: str, layer: int | list[int], shape: tuple[int, int], tmp_path: Path) -> None:
    loaded = load(tiny.build(tmp_path / "other", strategy=strategy, layer=layer), "cpu", None)
    engine = LocalEngine(loaded)
    assert engine.features([PICTURE]).shape == (1, *shape)
    assert engine.limits.tokens_per_image == shape[0]
    assert ids(engine, ASKED)


def test_a_very_long_strip_is_seen_without_a_square_of_its_length(engine: LocalEngine) -> None:
    strip = tiny.picture(5, (60_000, 600))
    small = strip.resize((600, 6), Image.Resampling.BOX)
    a, b = engine.features([strip, small]).reshape(2, -1)
    assert np.corrcoef(a, b)[0, 1] > 0.98
