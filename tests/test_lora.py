"""LoRA: what is read is what is served, what is learnt is what was meant, and a kill costs nothing. On tiny real models."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from served import free_port
from transformers import LlamaConfig, LlamaForCausalLM

from chat.conversation import Conversation, Turn
from chat.engine import text as text_engine
from chat.engine.adapter import read_receipt
from chat.engine.base import EngineUnavailable, Message, Sampling
from chat.engine.checkpoint import load
from chat.engine.local import LocalEngine
from chat.prompt import View, compose
from chat.wording import language_of
from finetune import chat as terminal
from finetune import lora
from finetune.asking import listen
from finetune.batches import Share, collate, examples_of, plan
from finetune.lora_base import Taught, check_gradients, inject, open_base
from finetune.lora_flags import read_recipe
from finetune.record_formats import Exchange, Record
from finetune.records import RecordError, split_of
from vision.tiling import Box

ROOT = Path(__file__).parents[1]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{{ eos_token if m['role'] == 'assistant' }}"
    "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
QUESTIONS = ("Is there pneumonia?", "폐렴이 있습니까?", "Where is it? <image> </s>", "What  is\nthis?", "Are the lungs clear?")
ANSWERS = ("Yes.", "아니요. 보이지 않습니다.", "The lungs are clear.", "No </s> pneumonia", " a heart")
FAST = ["--lora_r", "4", "--lora_alpha", "8", "--learning_rate", "1e-2", "--per_device_train_batch_size", "4"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build(tmp_path_factory.mktemp("lora") / "base")


@pytest.fixture(scope="module")
def text_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, words = tmp_path_factory.mktemp("lora-text"), tiny.tokenizer()
    words.chat_template = TEMPLATE
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=-(-len(words) // 64) * 64, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=1024, bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def write(folder: Path, count: int = 24, with_images: bool = True) -> Path:
    """Records of so many patients, every third without an image, some with two turns or a report."""
    rows = []
    for i in range(count):
        has_image = with_images and i % 3 != 0
        if has_image:
            tiny.picture(i).save(folder / f"{i}.png")
        turns = [{"question": f"Is there pneumonia {i}?", "answer": "Yes." if i % 2 else "No."}]
        turns += [{"question": "Are the lungs clear?", "answer": "The lungs are clear."}] if i % 4 == 0 else []
        context = "FINDINGS: The lungs are clear." if i % 5 == 0 else ""
        rows.append(
            {"id": f"r{i}", "patient": f"p{i}", "image": f"{i}.png" if has_image else None, "context": context, "turns": turns}
        )
    (folder / "records.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return folder / "records.jsonl"


def command(base: Path, records: Path, out: Path, *more: str) -> list[str]:
    return ["--model_name_or_path", str(base), "--data_path", str(records), "--output_dir", str(out), *FAST, *more]


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "losses.jsonl").read_text().splitlines()]


def alone(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def drawn(number: int, has_image: bool) -> Record:
    rng = random.Random(number)
    turns = tuple(Exchange(rng.choice(QUESTIONS), rng.choice(ANSWERS)) for _ in range(rng.randint(1, 4)))
    context = rng.choice(("", "FINDINGS: clear.\n\nIMPRESSION: 정상 </s>"))
    return Record(f"r{number}", "p", turns, "x.png" if has_image else None, "" if has_image else context)


def test_what_is_read_in_training_is_what_is_read_when_served(base: Path) -> None:
    engine, read = LocalEngine(load(base, "cpu", None)), open_base(base, "cpu", None)
    words = read.tokenizer
    for number in range(200):
        record = drawn(number, has_image=number % 2 == 0)
        (example,) = examples_of(record, read, "hash")
        *past, last = record.turns
        turns = [
            Turn(t.question, t.answer, tuple(words.encode(t.answer, add_special_tokens=False, split_special_tokens=True)))
            for t in past
        ]
        conversation = Conversation(tuple(turns))
        if record.image:
            view = View("overview", Box(0, 0, 80, 60), tiny.picture(number))
            language = language_of(last.question)
            messages = compose(last.question, conversation, [view], (), (), language, engine.limits, engine.count, 8).messages
        elif record.context:
            messages = terminal.compose(record.context, last.question, conversation, engine, 8)
        else:
            messages = compose_plain(turns, last.question)
        prompt = engine._encode(messages)
        answer = words.encode(last.answer, add_special_tokens=False, split_special_tokens=True)
        assert example.ids == (*prompt.ids, *answer, words.eos_token_id)
        assert example.is_answer[-len(answer) - 1 :] == (True,) * (len(answer) + 1)
        assert example.is_answer[: len(prompt.ids)] == prompt.is_answer
        assert example.answers == sum(prompt.is_answer) + len(answer) + 1


def compose_plain(turns: Sequence[Turn], question: str) -> tuple[Message, ...]:
    from chat.prompt import SYSTEM

    said = [m for t in turns for m in (Message("user", (t.question,)), Message("assistant", (t.answer,), t.ids))]
    return (Message("system", (SYSTEM,)), *said, Message("user", (question,)))


def test_a_text_base_reads_what_its_engine_reads_one_example_a_turn(text_base: Path) -> None:
    engine, read = text_engine.load(text_base, "cpu", None), open_base(text_base, "cpu", None)
    for number in range(40):
        record = drawn(number, has_image=False)
        found = examples_of(record, read, None)
        assert len(found) == len(record.turns)
        if record.context:
            past = [Turn(t.question, t.answer) for t in record.turns[:-1]]
            messages = terminal.compose(record.context, record.turns[-1].question, Conversation(tuple(past)), engine, 8)
            prompt = engine._encode(messages)
            assert found[-1].ids[: len(prompt)] == tuple(prompt) and not any(found[-1].is_answer[: len(prompt)])
        assert found[-1].ids[-1] == read.tokenizer.eos_token_id and found[-1].is_answer[-1]


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=60), batch=st.integers(1, 5), accumulate=st.integers(1, 3),
    processes=st.integers(1, 3), seed=st.integers(0, 5),
)  # fmt: skip
def test_an_epoch_reads_everything_once_and_keeps_its_processes_in_step(
    lengths: list[int], batch: int, accumulate: int, processes: int, seed: int
) -> None:
    steps = plan(lengths, batch, accumulate, processes, seed)
    shares = [share for step in steps for process in step for share in process]
    assert sorted(i for share in shares if share.counts for i in share.examples) == list(range(len(lengths)))
    assert all(len(step) == processes and all(step) for step in steps)
    assert all(len(share.examples) <= batch for share in shares)
    whole = plan(lengths, batch * accumulate * processes, 1, 1, seed)
    assert [members(step) for step in steps] == [members(step) for step in whole]


def members(step: list[list[Share]]) -> set[int]:
    return {i for process in step for share in process if share.counts for i in share.examples}


def test_the_loss_is_that_of_a_plain_forward_pass_over_the_answers(base: Path) -> None:
    read = open_base(base, "cpu", False)
    inject(read, 4, 8, 0.0, projector=False)
    taught = Taught(read, projector=False)
    record = Record("a", "p", (Exchange("Is there pneumonia?", "Yes."), Exchange("Where?", "The heart.")))
    ids, targets = collate(examples_of(record, read, None) * 2, 0)
    loss = taught(ids, targets, [])
    with torch.autocast("cpu", read.dtype, enabled=read.dtype is not torch.float32):
        logits = read.model(input_ids=ids).logits.float()
    plain = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), targets[:, 1:].flatten(), reduction="sum")
    assert loss.item() == pytest.approx(plain.item(), rel=1e-5)
    loss.backward()
    check_gradients(taught)


@pytest.mark.parametrize("projector", [True, False])
def test_only_the_language_tower_and_the_projector_are_trained(base: Path, projector: bool) -> None:
    read = open_base(base, "cpu", None)
    inject(read, 4, 8, 0.0, projector)
    trained = [name for name, weight in read.model.named_parameters() if weight.requires_grad]
    lora_layers = {name.split(".lora_")[0] for name in trained if ".lora_" in name}
    assert len(lora_layers) == 2 * 7 and all(".language_model.layers." in name for name in lora_layers)
    rest = [name for name in trained if ".lora_" not in name]
    assert len(rest) == (4 if projector else 0) and all("multi_modal_projector.modules_to_save" in name for name in rest)


def test_a_base_that_passes_no_gradients_on_is_noticed_before_a_step(base: Path) -> None:
    read = open_base(base, "cpu", None)
    inject(read, 4, 8, 0.0, projector=False)
    taught = Taught(read, projector=False)
    with pytest.raises(RecordError, match="28 of its weights have no gradient"):
        check_gradients(taught)
    ids, targets = collate(examples_of(drawn(3, has_image=False), read, None), 0)
    taught(ids, targets, []).backward()
    check_gradients(taught)
    for name, weight in taught.trained():
        if ".lora_B." in name:
            weight.grad = torch.zeros_like(weight)  # as behind a base that is cut off from its matrices
    with pytest.raises(RecordError, match="learns nothing"):
        check_gradients(taught)


def test_the_earlier_command_line_works_as_it_stood(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records, out = write(tmp_path), tmp_path / "out"
    earlier = ["--num_train_epochs", "3", "--per_device_train_batch_size", "4", "--per_device_eval_batch_size", "4"]
    earlier += ["--gradient_accumulation_steps", "8", "--evaluation_strategy", "no", "--save_strategy", "epoch"]
    earlier += ["--learning_rate", "2e-4", "--weight_decay", "0.0", "--warmup_ratio", "0.03", "--lr_scheduler_type", "cosine"]
    earlier += ["--logging_steps", "1", "--gradient_checkpointing", "True", "--ddp_timeout", "1800"]
    named = ["--output_dir", str(out), "--model_name_or_path", str(base), "--data_path", str(records)]
    assert lora.main([*named, *earlier]) == 0
    assert "--evaluation_strategy is called --eval_strategy now" in capsys.readouterr().err
    receipt = read_receipt(out)
    assert (receipt["rank"], receipt["projector"], receipt["config"]["lora_alpha"]) == (128, True, 256)
    assert receipt["metrics"]["steps"] == len(losses(out)) == 3
    assert receipt["data"]["train"] == sum(split_of(f"p{i}") == "train" for i in range(24))
    assert str(tmp_path) not in (out / "manifest.json").read_text() + (out / "adapter_config.json").read_text()
    assert list((out / "events").glob("events.out.tfevents*"))
    assert not (out / "features").exists() and not (out / "state.pt").exists()


def test_runs_that_hold_nothing_out_share_what_the_tower_saw(base: Path, tmp_path: Path) -> None:
    records, seen, kept = write(tmp_path), tmp_path / "seen", []
    shared = ["--data_path", str(records), "--hold_out", "False", "--feature_folder", str(seen), "--eval_strategy", "epoch"]
    for name in ("one", "other"):
        out = tmp_path / name
        assert lora.main(["--model_name_or_path", str(base), "--output_dir", str(out), *shared, *FAST]) == 0
        data = read_receipt(out)["data"]
        assert (data["train"], data["val"]) == (24, 0) and not (out / "features").exists()
        kept.append({path: path.stat().st_mtime_ns for path in seen.rglob("*.safetensors")})
    assert kept[0] == kept[1] and len(kept[0]) == 16
    assert losses(tmp_path / "one") == losses(tmp_path / "other")


def test_it_learns_and_the_validation_loss_falls(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    more = [
        "--num_train_epochs",
        "8",
        "--eval_strategy",
        "epoch",
        "--mm_projector_lr",
        "1e-3",
        "--gradient_checkpointing",
        "False",
    ]
    assert lora.main(command(base, write(tmp_path), out, *more)) == 0
    found = losses(out)
    assert sum(found[-3:]) < 0.5 * sum(found[:3])
    tensors = load_file(out / "adapter_model.safetensors")
    assert sum("multi_modal_projector" in name for name in tensors) == 4
    assert read_receipt(out)["metrics"]["eval_loss"] < found[0]


@pytest.mark.parametrize("bits", ["4", "16"])
def test_a_text_base_is_taught_in_either_precision(text_base: Path, tmp_path: Path, bits: str) -> None:
    out = tmp_path / "out"
    flags = command(text_base, write(tmp_path, with_images=False), out, "--bits", bits, "--num_train_epochs", "4")
    assert lora.main(flags) == 0
    assert losses(out)[-1] < losses(out)[0]
    receipt = read_receipt(out)
    assert receipt["base"]["four_bit"] is (bits == "4") and not receipt["projector"]


def kill_at(base: Path, records: Path, out: Path, line: int, *more: str) -> None:
    """Kill -9 once the journal holds so many lines, wherever the run is by then."""
    with alone("-m", "finetune.lora", *command(base, records, out, *more)) as process:
        for _ in range(6000):
            journal = out / "losses.jsonl"
            if process.poll() is not None or (journal.exists() and len(journal.read_text().splitlines()) >= line):
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        said = process.communicate()[0]
    assert process.returncode == -signal.SIGKILL, said[-2000:]


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_losses(base: Path, tmp_path: Path) -> None:
    records, more = write(tmp_path), ["--num_train_epochs", "8", "--save_steps", "7"]
    assert lora.main(command(base, records, tmp_path / "whole", *more)) == 0
    kill_at(base, records, tmp_path / "killed", 19, *more)
    assert (tmp_path / "killed" / "state.pt").exists()
    assert lora.main(command(base, records, tmp_path / "killed", *more)) == 0
    whole, killed = losses(tmp_path / "whole"), losses(tmp_path / "killed")
    assert len(whole) == len(killed) and max(abs(a - b) for a, b in zip(whole, killed, strict=True)) < 1e-4
    one, other = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "killed"))
    assert all(torch.allclose(one[name], other[name], atol=1e-5) for name in one)


def test_a_run_is_not_gone_on_with_under_other_settings(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records, out = write(tmp_path), tmp_path / "out"
    out.mkdir()
    assert lora.main(command(base, records, out)) == 0
    assert lora.main(command(base, records, out)) == 2
    assert "holds an adapter that is done" in capsys.readouterr().err
    (out / "manifest.json").unlink()
    assert lora.main(command(base, records, out, "--seed", "1")) == 2
    assert "with another --seed" in capsys.readouterr().err
    records.write_text(records.read_text().replace("Is there", "Was there"))
    assert lora.main(command(base, records, out)) == 2
    assert "with another data" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_learn_what_one_does(base: Path, tmp_path: Path) -> None:
    records = write(tmp_path)
    more = ["--lora_dropout", "0", "--num_train_epochs", "2", "--device", "cpu"]
    assert lora.main(command(base, records, tmp_path / "one", *more)) == 0
    launch = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(free_port())]
    flags = command(base, records, tmp_path / "two", *more, "--per_device_train_batch_size", "2")
    with alone(*launch, "-m", "finetune.lora", *flags) as process:
        said = process.communicate(timeout=300)[0]
    assert process.returncode == 0, said[-3000:]
    assert read_receipt(tmp_path / "two")["processes"] == 2
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == len(two) and max(abs(a / b - 1) for a, b in zip(one, two, strict=True)) < 0.02


def test_a_merged_checkpoint_answers_as_base_and_adapter_do(base: Path, tmp_path: Path) -> None:
    from chat.engine.adapter import open_pair

    out = tmp_path / "out"
    assert lora.main(command(base, write(tmp_path), out, "--num_train_epochs", "4", "--mm_projector_lr", "1e-2")) == 0
    assert lora.main(["merge", str(out), "--base", str(base), "--out", str(tmp_path / "merged")]) == 0
    plain, adapted = open_pair(load(base, "cpu", False), base, out)
    merged = LocalEngine(load(tmp_path / "merged", "cpu", False))
    prompts = [tiny.question(text, tiny.picture(7)) for text in QUESTIONS]
    one, other, before = (engine.choose(prompts, ("Yes", "No", "The")) for engine in (merged, adapted, plain))
    assert abs(one - other).max() < 0.05 < abs(before - other).max()
    assert lora.main(["merge", str(out), "--base", str(base), "--out", str(tmp_path / "merged")]) == 2


@pytest.mark.slow
def test_a_merged_text_base_is_a_checkpoint_that_answers(text_base: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert lora.main(command(text_base, write(tmp_path, with_images=False), out, "--num_train_epochs", "20")) == 0
    assert lora.main(["merge", str(out), "--base", str(text_base), "--out", str(tmp_path / "merged")]) == 0
    engine = text_engine.load(tmp_path / "merged", "cpu", None)
    prompt = (Message("system", ("A chat.",)), Message("user", ("Are the lungs clear?",)))
    text, finish, _ = listen(engine, prompt, Sampling(24, temperature=0))
    assert finish == "stop" and text.strip()  # before it was taught it never came to an end


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--learnig_rate", "1"], "--learnig_rate is not a flag; did you mean --learning_rate?"),
        (["--learning_rate", "-1"], "--learning_rate is -1.0; it must be at least"),
        (["--lora_dropout", "1.5"], "must be at least 0 and below 1"),
        (["--bits", "8"], "invalid choice"),
        (["--gradient_checkpointing", "maybe"], "'maybe' is not True or False"),
        (["--num_train_epochs", "many"], "invalid int value"),
        (["--learning_rate", "nan"], "--learning_rate is nan"),
    ],
)
def test_a_flag_that_cannot_be_used_is_one_sentence(
    flags: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lora.main(command(tmp_path, tmp_path / "r", tmp_path / "out", *flags)) == 2
    told = capsys.readouterr().err.strip()
    assert said in told and told.count("\n") == 0


def test_llavas_own_flags_are_taken_with_a_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--bf16", "True", "--version", "v1", "--image-folder", "x", "--report_to=wandb", "--model_max_length", "2048"]
    recipe = read_recipe(command(tmp_path, tmp_path / "r", tmp_path / "out", *given), "")
    assert recipe.image_folder == Path("x") and recipe.model_max_length == 2048
    assert capsys.readouterr().err.count("has no effect here") == 3


def broken(base: Path, folder: Path, what: str) -> list[str]:
    records = write(folder)
    lines = records.read_text().splitlines()
    if what == "line":
        records.write_text("\n".join([*lines[:3], lines[3][:-4]]))
    elif what == "image":
        (folder / "1.png").unlink()
    elif what == "no training part":
        records.write_text("\n".join(line for i, line in enumerate(lines) if split_of(f"p{i}") != "train"))
    return command(
        folder if what == "base" else base, records, folder / "out", *(["--model_max_length", "5"] if what == "long" else [])
    )


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("line", "records.jsonl, line 4: this is not JSON"), ("image", "field image: '1.png' is missing"),
        ("no training part", "none is in the training part"), ("base", "it holds no config.json"), ("long", "within 5 tokens"),
    ],
)  # fmt: skip
def test_what_cannot_be_taught_from_is_one_sentence(
    base: Path, tmp_path: Path, what: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lora.main(broken(base, tmp_path, what)) == 2
    assert said in capsys.readouterr().err


def test_a_text_base_refuses_images(text_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lora.main(command(text_base, write(tmp_path), tmp_path / "out")) == 2
    assert "reads text alone" in capsys.readouterr().err


def test_a_full_disk_is_one_sentence_and_the_run_goes_on_when_there_is_room(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records, out = write(tmp_path), tmp_path / "out"
    out.mkdir()
    (out / "state.new").symlink_to("/dev/full")
    flags = command(base, records, out, "--save_steps", "1")
    assert lora.main(flags) == 2
    assert "state.pt cannot be written. Make room" in capsys.readouterr().err
    (out / "state.new").unlink()
    assert lora.main(flags) == 0


def test_two_runs_do_not_write_one_folder(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from finetune.jsonl import claim

    with claim(tmp_path / "out"):
        assert lora.main(command(base, write(tmp_path), tmp_path / "out")) == 2
    assert "Another run is writing out" in capsys.readouterr().err


def test_merging_onto_a_quantised_base_is_refused(base: Path, tmp_path: Path) -> None:
    quantised = tmp_path / "four"
    quantised.mkdir()
    (quantised / "config.json").write_text(
        json.dumps(
            {"model_type": "llava", "vision_config": {}, "text_config": {}, "quantization_config": {}}
            | {"quantization_config": {"quant_method": "bitsandbytes"}}
        )
    )
    with pytest.raises((RecordError, EngineUnavailable), match="16-bit original"):
        lora.merge.merge(tmp_path, quantised, tmp_path / "merged")
