"""Pretraining: what the model reads at school is what it reads at the desk, and a kill costs nothing."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_classifier import tiny_classifier
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from transformers import AutoTokenizer, LlavaForConditionalGeneration

from chat.engine.base import Message
from chat.prompt import encode
from finetune import canvas, teacher, tower
from finetune.ask_scenes import ask_kind
from finetune.book import IGNORED, PATCHES, PRIMER_PAGES, Book, collate, read_lesson, shown_ground, thin
from finetune.emphasis import CLAIM, weigh
from finetune.films import Film, Films, augment, find_films, load_pixels
from finetune.lessons import MAKERS, Lesson, about, draw_lesson, draw_quiz, phantom_lesson, search_lesson, texts
from finetune.looking import looking_loss
from finetune.loss import judge, loss_of
from finetune.outlines import SHAPES
from finetune.patches import LEAST_SHARE, scene_truth
from finetune.phantom import draw_phantom
from finetune.pretrain import (
    PROJECTOR_RATE,
    Size,
    build,
    export,
    main,
    optimizers,
    rate_at,
    split_for_words,
    to_films,
    train_language,
)  # fmt: skip
from finetune.progress import Progress
from finetune.scenes import draw_crowd, draw_scene
from finetune.tokenizer import train_tokenizer

SMALL = Size(batch=2, page=2, texts=60, crowds=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of drawn films under names of the real form, one film twice."""
    root = tmp_path_factory.mktemp("films")
    for number in range(40):
        kind = ("NORMAL", "PNEUMONIA")[number % 2]
        name = (
            f"IM-{number:04}-0001.png" if number % 2 == 0 else f"person{number}_{('bacteria', 'virus')[number % 4 // 2]}_1.png"
        )
        (root / kind).mkdir(exist_ok=True)
        draw_phantom(np.random.default_rng(number), bool(number % 2)).image.convert("L").save(root / kind / name)
    first = next((root / "NORMAL").iterdir())
    (root / "NORMAL" / "IM-9999-0001.png").write_bytes(first.read_bytes())
    return root


@pytest.fixture(scope="module")
def films(folder: Path) -> list[Film]:
    return find_films(folder)


@pytest.fixture(scope="module")
def pictures(films: list[Film]) -> Films:
    return Films(load_pixels(films), torch.tensor([film.label for film in films]))


def test_equal_films_are_kept_once_and_labels_come_from_names(films: list[Film]) -> None:
    assert len(films) == 40
    assert {film.label for film in films if film.path.parent.name == "NORMAL"} == {0}
    assert all(film.label == (2 if "virus" in film.path.name else 1) for film in films if film.path.parent.name == "PNEUMONIA")


def test_augmentation_depends_on_its_generator_alone(pictures: Films) -> None:
    one, other, third = (augment(pictures.pixels, 64, torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(one, other)
    assert not torch.equal(one, third)
    assert one.min() >= 0
    assert one.max() <= 1


def test_the_canvas_shows_what_the_serving_processor_shows(pictures: Films, tmp_path: Path) -> None:
    from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

    side = {"height": canvas.SIDE, "width": canvas.SIDE}
    served = LlavaImageProcessorPil(size=side, do_pad=True, do_center_crop=False)
    image = draw_scene(np.random.default_rng(3)).image
    ours = canvas.normalise(canvas.pixels(image))
    theirs = torch.as_tensor(np.asarray(served(images=image)["pixel_values"][0]))
    assert (ours - theirs).abs().max() < 0.02


def test_a_scene_s_patches_say_what_stands_on_them() -> None:
    scene = next(s for s in (draw_scene(np.random.default_rng(n)) for n in range(50)) if len(s.items) == 3)
    truth = scene_truth(scene)
    assert int(truth["centre"].sum()) == 3
    at = truth["centre"].nonzero().squeeze(1)
    assert {SHAPES[int(k) - 1] for k in truth["kind"][at]} == {item.kind for item in scene.items}


def test_a_crowd_is_packed_and_its_letters_can_be_told_apart() -> None:
    crowds = [draw_crowd(np.random.default_rng(n)) for n in range(20)]
    assert sum(len(crowd.items) for crowd in crowds) / sum(bool(crowd.items) for crowd in crowds) > 12
    lettered = next(crowd for crowd in crowds if crowd.lettering)
    assert len(lettered.lettering.letters) == len(lettered.lettering.text) > 5
    assert (scene_truth(lettered)["letter"] > 0).sum() >= len(lettered.lettering.text)


def test_a_lesson_depends_on_its_seed_alone_and_ends_with_an_answer(pictures: Films) -> None:
    for seed in range(40):
        one, other = (draw_lesson(pictures, np.random.default_rng(seed)).messages for _ in range(2))
        assert [(m.role, m.ids, [p if isinstance(p, str) else p.tobytes() for p in m.parts]) for m in one] == [
            (m.role, m.ids, [p if isinstance(p, str) else p.tobytes() for p in m.parts]) for m in other
        ]
        assert one[0].role == "system"
        assert one[-1].role == "assistant"
        assert all((a.role, b.role) != ("user", "user") for a, b in pairwise(one))


@pytest.mark.parametrize("maker", [maker for maker, _ in MAKERS])
def test_every_maker_gives_lessons_in_both_languages(maker, pictures: Films) -> None:
    for language in ("ko", "en"):
        lesson = maker(pictures, np.random.default_rng(5), language)
        assert "".join(part for part in lesson.messages[-1].parts if isinstance(part, str)).strip()


def test_the_loss_sees_answers_and_their_end_tokens_only(pictures: Films, tmp_path: Path) -> None:
    tokenizer = train_tokenizer(texts(pictures, 0, 40), tmp_path, 1200)
    image_id = tokenizer.convert_tokens_to_ids("<image>")
    lesson = draw_lesson(pictures, np.random.default_rng(1)).messages
    batch = collate([read_lesson(Lesson(lesson), tokenizer, image_id)], tokenizer.pad_token_id)
    kept = batch["labels"][0][batch["labels"][0] != IGNORED].tolist()
    answers = [message for message in lesson if message.role == "assistant"]
    assert kept.count(tokenizer.eos_token_id) == len(answers)
    said = tokenizer.decode(kept, skip_special_tokens=True)
    for message in answers:
        assert "".join(map(str, message.parts)) in said


def test_the_prompt_of_training_begins_as_the_prompt_of_serving(pictures: Films, tmp_path: Path) -> None:
    """Serving stops where the answer begins; training goes on from the very same ids."""
    tokenizer = train_tokenizer(texts(pictures, 0, 40), tmp_path, 1200)
    image_id = tokenizer.convert_tokens_to_ids("<image>")
    for seed in range(30):
        lesson = draw_lesson(pictures, np.random.default_rng(seed)).messages
        taught = encode(lesson, tokenizer, image_id, PATCHES)
        asked = encode(lesson[:-1], tokenizer, image_id, PATCHES)
        answer = tokenizer.encode(str(lesson[-1].parts[0]), add_special_tokens=False, split_special_tokens=True)
        assert taught.ids == (*asked.ids, *answer, tokenizer.eos_token_id)


def test_the_layout_s_own_words_are_single_pieces(pictures: Films, tmp_path: Path) -> None:
    """They stand around every answer; spelt letter by letter they would be a third of what a model reads."""
    pieces = train_tokenizer(texts(pictures, 0, 40), tmp_path, 1200).get_vocab()
    assert {"\u2581USER", "\u2581ASSISTANT", "\u2581Yes", "\u2581아니오"} <= set(pieces)


def test_what_a_classifier_says_comes_with_the_films_that_are_new_to_it(films: list[Film]) -> None:
    drawn = to_films(films, tiny_classifier())
    assert drawn.chances is not None
    for film, chance in zip(films, drawn.chances.tolist(), strict=True):
        assert np.isnan(chance) == (film.split == "train")
        assert np.isnan(chance) or 0 <= chance <= 1
    told = [drawn.draw(np.random.default_rng(seed))[2] for seed in range(400)]
    assert 0.5 < sum(chance is not None for chance in told) / 400 < 0.7


def test_words_are_validated_on_other_people_than_they_are_learnt_from() -> None:
    films = [Film(Path(f"{n}.png"), n % 3, f"p{n // 2}", ("train", "val", "test")[n // 2 % 3]) for n in range(120)]
    taught, kept = split_for_words(films)
    assert kept and {f.split for f in kept} == {"val"} and {f.split for f in taught} == {"train", "val"}
    assert not {f.patient for f in taught} & {f.patient for f in kept}


def test_without_films_the_training_draws_its_pictures(tmp_path: Path) -> None:
    eyes = tower.train([], None, tmp_path, 2, 0, (2, 2, 1))
    _, tokenizer = train_language([], eyes, tmp_path, pages=1, seed=0, size=SMALL)
    book = Book(to_films([]), tokenizer, tokenizer.convert_tokens_to_ids("<image>"), 0, 2, 2)
    assert len(book[1000]) == 2


@pytest.mark.slow
def test_a_resumed_training_sees_with_the_eyes_that_it_is_given(tmp_path: Path) -> None:
    """Not with those that the state was saved with."""
    for seed in (1, 2):
        torch.manual_seed(seed)
        eyes = tower.Tower()
        model, _ = train_language([], eyes, tmp_path, pages=seed, seed=0, size=SMALL)
        weight = "encoder.layer.0.attention.attention.query.weight"
        assert torch.equal(model.model.vision_tower.get_parameter(weight), eyes.vision.get_parameter(weight))


@pytest.mark.slow
def test_a_trained_model_is_taught_further_by_the_same_eyes_and_tokens(tmp_path: Path) -> None:
    folder, more = tmp_path / "model", tmp_path / "more"
    torch.manual_seed(1)
    export(*train_language([], tower.Tower(), tmp_path, pages=1, seed=0, size=SMALL), folder)
    begun = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    model, tokenizer = train_language([], folder, more, pages=1, seed=1, size=SMALL)
    assert tokenizer.get_vocab() == AutoTokenizer.from_pretrained(folder).get_vocab() and not (more / "tokenizer").exists()
    changed = {name for name, one in begun.named_parameters() if not torch.equal(one, model.get_parameter(name))}
    assert changed and not [name for name in changed if "vision_tower" in name]
    far = max((model.get_parameter(name) - begun.get_parameter(name)).abs().max().item() for name in changed)
    assert far < 0.05, "the weights were drawn anew"


def test_padding_on_the_right_changes_no_loss(pictures: Films, tmp_path: Path) -> None:
    tokenizer = train_tokenizer(texts(pictures, 0, 40), tmp_path, 1200)
    model = build(tokenizer, None).eval()
    lessons = Book(pictures, tokenizer, model.config.image_token_index, 0, 1, 2)[1000]
    longer = max(lessons, key=lambda one: one["input_ids"].shape[1])
    short = min(lessons, key=lambda one: one["input_ids"].shape[1])
    more = longer["input_ids"].shape[1] - short["input_ids"].shape[1] + 32
    padded = {
        "input_ids": nn.functional.pad(short["input_ids"], (0, more), value=tokenizer.pad_token_id),
        "labels": nn.functional.pad(short["labels"], (0, more), value=IGNORED),
        "pixel_values": short["pixel_values"],
        "kept": short["kept"],
        "moved": short["moved"],
    }
    with torch.inference_mode():
        assert (judge(model, short).loss - judge(model, padded).loss).abs().max() < 0.02


def test_the_projector_moves_slowly(pictures: Films, tmp_path: Path) -> None:
    model = build(train_tokenizer(texts(pictures, 0, 40), tmp_path, 1200), None)
    model.model.vision_tower.requires_grad_(False)
    rates = {id(p): group["lr"] for one in optimizers(model, 1e-3, 0.0) for group in one.param_groups for p in group["params"]}
    projector = {id(p) for p in model.model.multi_modal_projector.parameters()}
    assert {rates[one] for one in projector} == {PROJECTOR_RATE * 1e-3}
    assert len(rates) == sum(1 for _ in model.parameters()) - sum(1 for _ in model.model.vision_tower.parameters())


def test_the_data_card_counts_and_shows_lessons(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["samples", "--count", "40"]) == 0
    card = capsys.readouterr().out
    assert "no real films" in card and "| scene |" in card and "ASSISTANT:" in card and "film_" not in card
    assert main(["samples", "--data", str(folder / "nothing")]) == 2
    assert "hilum: " in capsys.readouterr().err
    assert main(["--start", str(folder / "nothing")]) == 2 and "--start" in capsys.readouterr().err


def test_progress_puts_everything_back(tmp_path: Path) -> None:
    def made() -> tuple[nn.Linear, torch.optim.Optimizer, LRScheduler, Progress]:
        model = nn.Linear(2, 1)
        optimizer = torch.optim.AdamW(model.parameters())
        schedule = OneCycleLR(optimizer, 0.1, total_steps=9)
        return model, optimizer, schedule, Progress(tmp_path / "p.pt", model, optimizer, schedule)

    model, optimizer, schedule, progress = made()
    assert progress.restore() == 0
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    schedule.step()
    progress.save(7)
    again, _, later, resumed = made()
    assert resumed.restore() == 7
    assert torch.equal(again.weight, model.weight)
    assert later.state_dict() == schedule.state_dict()


@pytest.mark.slow
def test_a_killed_tower_training_resumes_to_the_same_weights(
    films: list[Film], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guide = teacher.build().eval()
    whole = tower.train(films, guide, tmp_path / "whole", 4, 0, (2, 2, 1))

    monkeypatch.setattr(tower, "SAVE_EVERY", 2)
    saved = Progress.save

    def save_and_die(self: Progress, done: int) -> None:
        saved(self, done)
        if done == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        tower.train(films, guide, tmp_path / "killed", 4, 0, (2, 2, 1))
    monkeypatch.setattr(Progress, "save", saved)
    resumed = tower.train(films, guide, tmp_path / "killed", 4, 0, (2, 2, 1))
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_the_language_stage_learns_and_exports_a_checkpoint_that_chat_loads(films: list[Film], tmp_path: Path) -> None:
    from chat.engine.base import Sampling
    from chat.engine.checkpoint import load
    from chat.engine.local import LocalEngine

    model, tokenizer = train_language(films, tower.Tower(), tmp_path, pages=2, seed=0, size=SMALL)
    export(model, tokenizer, tmp_path / "model")
    engine = LocalEngine(load(tmp_path / "model", "cpu", None))
    messages = (Message("system", ("s",)), Message("user", (Image.new("RGB", (50, 30)), "\nhello")))
    assert "".join(delta.text for delta in engine.stream(messages, Sampling(8, 0), "s")) is not None
    assert engine.limits.max_images == 5


def test_a_page_is_the_same_book_in_every_process(pictures: Films, tmp_path: Path) -> None:
    tokenizer = train_tokenizer(texts(pictures, 0, 40), tmp_path, 1200)
    book = Book(pictures, tokenizer, tokenizer.convert_tokens_to_ids("<image>"), 3, 2, 2)
    for one, other in zip(book[4], book[4], strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_claims_count_more_than_wording(pictures: Films, tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["Yes, there is a red star. 예, 빨간 별이 있습니다."] * 50, tmp_path, 600)
    weight = weigh(tokenizer)
    heavy = {
        token
        for token in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        if weight[tokenizer.convert_tokens_to_ids(token)] == CLAIM
    }
    assert {"\u2581red", "\u2581예", "\u2581빨간"} <= heavy
    assert not {"\u2581there", "\u2581a", ".", ","} & heavy


def test_the_primer_quizzes_on_little_but_the_shapes_and_ends_with_all(pictures: Films, tmp_path: Path) -> None:
    tokenizer = train_tokenizer(texts(pictures, 0, 40), tmp_path, 1200)
    book = Book(pictures, tokenizer, tokenizer.convert_tokens_to_ids("<image>"), 0, 4, 1)
    first, last = book[0][0], book[PRIMER_PAGES][0]
    assert int((first["labels"] == tokenizer.eos_token_id).sum()) > 12
    assert 0 < first["kept"].float().mean() < 0.5 and last["kept"].all()
    assert int((first["input_ids"] == book.image_id).sum()) == int(first["kept"].sum())
    shown = [shown_ground(page) for page in range(PRIMER_PAGES + 1)]
    assert shown[0] < 0.1 and shown == sorted(shown) and shown[-1] == 1


def test_a_thinned_lesson_reads_as_the_whole_one_without_those_patches(pictures: Films, tmp_path: Path) -> None:
    tokenizer = train_tokenizer(texts(pictures, 0, 40), tmp_path, 1200)
    model = build(tokenizer, None).eval()
    image_id = model.config.image_token_index
    lesson = draw_quiz(np.random.default_rng(2), "en", 4)[1]
    whole = read_lesson(lesson, tokenizer, image_id)
    same, few = thin(whole, whole.kept, image_id), thin(whole, np.arange(PATCHES) < 7, image_id)
    assert same.tokens.ids == whole.tokens.ids and few.tokens.ids.count(image_id) == 7
    with torch.inference_mode():
        losses = [judge(model, collate([one], 0)).loss for one in (whole, same, few)]
    assert torch.equal(losses[0], losses[1]) and losses[2].shape == losses[0].shape and not torch.equal(losses[2], losses[0])


@pytest.mark.parametrize("language", ["ko", "en"])
def test_counting_looks_at_each_thing_as_it_is_named_and_at_none_for_the_sum(pictures: Films, tmp_path: Path, language) -> None:
    tokenizer = train_tokenizer(texts(pictures, 0, 40), tmp_path, 1200)
    rng = np.random.default_rng(5)
    seen = 0
    while seen < 5:
        scene = draw_scene(rng)
        exchange = ask_kind(scene, "count", rng, language)
        if exchange is None or len(exchange.parts) < 2:
            continue
        seen += 1
        lesson = about(scene, [exchange], language)
        read = read_lesson(lesson, tokenizer, tokenizer.convert_tokens_to_ids("<image>"))
        ids = np.array(read.tokens.ids)
        named = ["".join(tokenizer.convert_ids_to_tokens(ids[read.look_of == n])) for n in range(1, len(read.looks))]
        told = [name.replace("\u2581", " ") for name in named]
        assert "".join(told).strip() in exchange.answer and exchange.claim == str(len(told))
        assert all(words.lower() in text.lower() for (words, _), text in zip(exchange.parts, told, strict=True))
        shares = canvas.patch_shares(scene.index).reshape(PATCHES, -1)
        for (_, (item,)), look in zip(exchange.parts, read.looks[1:], strict=True):
            assert shares[look, 1 + item].max() >= LEAST_SHARE > shares[~look, 1 + item].max()
        assert not read.looks[0].any() and read.look_of[-3:].max() == 0


def test_attention_is_taught_to_look_where_the_question_does(pictures: Films, tmp_path: Path) -> None:
    """What is missed falls when it alone is trained on, and a lesson that says nothing of it costs nothing."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer(texts(pictures, 0, 40), tmp_path, 1200)
    model = build(tokenizer, None).eval()
    model.model.vision_tower.requires_grad_(False)
    rng = np.random.default_rng(3)
    lessons = [*(draw_quiz(rng, "ko", 4)[1] for _ in range(2)), phantom_lesson(pictures, rng, "en")]
    lessons += [search_lesson(pictures, rng, "en") for _ in range(4)]
    read = [read_lesson(one, tokenizer, model.config.image_token_index) for one in lessons]
    assert any(len(one.tokens.images) == 2 and one.looks.any() for one in read)
    batch = collate(read, tokenizer.pad_token_id)
    adam = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    missed = []
    for _ in range(12):
        adam.zero_grad()
        loss = looking_loss(model, judge(model, batch).hidden, batch)
        loss.backward()
        adam.step()
        missed.append(loss.item())
    assert missed[-1] < missed[0] / 2
    batch["looks"] = torch.zeros_like(batch["looks"])
    assert looking_loss(model, judge(model, batch).hidden, batch) == 0


def test_the_learning_rate_rises_holds_and_falls() -> None:
    rates = [rate_at(step, 1000) for step in range(1001)]
    assert rates[0] < rates[5] < 1 == rates[100] == rates[500] > rates[900] > rates[1000] == 0


def test_gradients_reach_the_projector_and_stop_at_a_frozen_tower(pictures: Films, tmp_path: Path) -> None:
    tokenizer = train_tokenizer(texts(pictures, 0, 40), tmp_path, 1200)
    model = build(tokenizer, None)
    model.model.vision_tower.requires_grad_(False)
    batch = Book(pictures, tokenizer, model.config.image_token_index, 0, 2, 1)[0][0]
    before = [values.clone() for values in model.model.vision_tower.buffers()]
    loss_of(model.eval(), batch, weigh(tokenizer)).backward()
    assert all(torch.equal(a, b) for a, b in zip(before, model.model.vision_tower.buffers(), strict=True))
    assert model.model.multi_modal_projector.linear_1.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in model.model.vision_tower.parameters())
