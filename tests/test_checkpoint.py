"""Checkpoints: what loads, how it is resolved, and one clear sentence for what does not load."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from transformers import LlavaImageProcessorPil

from chat.engine import devices
from chat.engine.base import EngineUnavailable, Sampling
from chat.engine.checkpoint import find_default, load, weigh
from chat.engine.devices import Fit
from chat.engine.layouts import read_config
from chat.engine.local import LocalEngine


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build(tmp_path_factory.mktemp("original"))


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "copy")


def shard(folder: Path) -> None:
    """The same weights in two files and an index, as large checkpoints come."""
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    halves = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, keys in halves.items():
        save_file({key: weights[key] for key in keys}, folder / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {key: file for file, keys in halves.items() for key in keys}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()


def edit_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def answer(folder: Path, four_bit: bool | None = None) -> tuple[int, ...]:
    engine = LocalEngine(load(folder, "cpu", four_bit))
    stream = engine.stream(tiny.question("폐렴?", tiny.picture(1)), Sampling(16, temperature=0), "a")
    return tuple(token for delta in stream for token in delta.ids)


def test_a_checkpoint_without_a_manifest_takes_one_image_as_llava_1_5_does(folder: Path) -> None:
    loaded = load(folder, "auto" if not torch.cuda.is_available() else "cpu", None)
    assert (loaded.max_images, loaded.context_tokens, loaded.tokens_per_image) == (1, 1024, 16)
    assert (loaded.name, loaded.device, loaded.four_bit, loaded.input_side) == ("copy", "cpu", False, 56)
    assert loaded.description["model"] == "copy"


def test_a_manifest_says_what_the_checkpoint_was_trained_on(folder: Path) -> None:
    tiny.write_manifest(folder, name="Hilum tiny", max_images=3, context_tokens=512)
    loaded = load(folder, "cpu", None)
    assert (loaded.name, loaded.max_images, loaded.context_tokens) == ("Hilum tiny", 3, 512)


def test_sharded_weights_answer_as_one_file_does(folder: Path) -> None:
    whole = answer(folder)
    shard(folder)
    assert answer(folder) == whole


def test_a_checkpoint_saved_in_four_bit_loads_as_it_is(folder: Path, tmp_path: Path) -> None:
    quantised = load(folder, "cpu", True)
    saved = shutil.copytree(folder, tmp_path / "nf4", ignore=shutil.ignore_patterns("*.safetensors"))
    quantised.model.save_pretrained(saved)
    reloaded = load(saved, "cpu", None)
    assert quantised.four_bit
    assert reloaded.four_bit
    assert reloaded.description["weights"] == "4-bit NF4"
    assert answer(saved) == answer(folder, four_bit=True)
    with pytest.raises(EngineUnavailable, match="saved in 4-bit"):
        load(saved, "cpu", False)


GB = 10**9


@pytest.mark.parametrize(("stored", "precision"), [(torch.float32, None), (torch.bfloat16, None), (torch.float32, False)])
def test_a_processor_takes_four_bits_where_memory_is_too_short_for_more(
    stored: torch.dtype, precision: bool | None, tmp_path: Path
) -> None:
    """By what the weights take when they are loaded, however they lie on the disk; what the person says comes first."""
    folder = tiny.build(tmp_path / "tiny", dtype=stored)
    roomy = load(folder, "cpu", precision, free=GB)
    loaded_bytes = sum(weight.nbytes for weight in roomy.model.parameters())
    assert not roomy.four_bit and "memory" not in roomy.description
    enough, short = (load(folder, "cpu", precision, free=int(loaded_bytes * share)) for share in (1.25, 1.0))
    assert (enough.four_bit, short.four_bit) == (False, precision is None)
    assert ("4-bit NF4" in short.description["weights"]) == ("memory" in short.description) == short.four_bit
    assert LocalEngine(short).description == short.description


def test_what_is_saved_in_four_bits_or_asked_for_is_not_weighed(folder: Path, tmp_path: Path) -> None:
    load(folder, "cpu", True).model.save_pretrained(tmp_path / "nf4")
    for file in folder.glob("*token*"):
        shutil.copy(file, tmp_path / "nf4")
    assert load(tmp_path / "nf4", "cpu", None, free=0).four_bit and load(folder, "cpu", True, free=GB).four_bit
    assert weigh(folder, read_config(folder), "cpu", True, 0) == (True, None)


@pytest.mark.parametrize(("needed", "free", "words"), [(16, 9, "later than unquantised"), (16, 20, "sooner than in 4 bits")])
def test_the_choice_is_said_in_one_line_with_its_numbers(needed: int, free: int, words: str) -> None:
    said = Fit(needed * GB, free * GB).meaning
    assert words in said and f"{needed}.0 GB" in said and f"{free}.0 GB" in said and "\n" not in said


def test_a_containers_limit_counts_as_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "CGROUP", tmp_path)
    free = devices.free_bytes()
    assert 0 < free <= devices.all_bytes()
    for name, text in (("max", "3000000"), ("current", "2500000"), ("stat", "anon 1\ninactive_file 400000\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    assert devices.free_bytes() == 900_000
    (tmp_path / "memory.current").write_text("4000000")
    assert devices.free_bytes() == 0
    (tmp_path / "memory.max").write_text("max\n")
    assert devices.free_bytes() > 900_000


def test_four_bit_leaves_vision_projector_and_head_alone(folder: Path) -> None:
    model = load(folder, "cpu", True).model
    quantised = {name for name, module in model.named_modules() if type(module).__name__ == "Linear4bit"}
    linear = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    assert quantised == {name for name in linear if name.startswith("model.language_model.")}
    assert len(quantised) == 2 * 7


def test_the_whole_image_is_seen_whatever_the_checkpoint_says(folder: Path) -> None:
    LlavaImageProcessorPil(do_pad=False, do_center_crop=True, image_mean=[0.5] * 3).save_pretrained(folder)
    processor = load(folder, "cpu", None).image_processor
    wide = tiny.picture(1, (400, 40))
    pixels = processor(images=[wide], return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 56, 56)
    assert pixels[0, :, 0].abs().max() < 0.02  # the padding has the colour of the mean
    assert all(pixels[0, :, 28, column].abs().max() > 0.02 for column in (1, 54))


def test_auto_means_the_large_checkpoint_only_when_it_is_complete(folder: Path, tmp_path: Path) -> None:
    models, weights = tmp_path / "models", tmp_path / "weights"
    assert find_default(models, weights) == models / "hilum-tiny"
    large = shutil.copytree(folder, weights / "llava-1.5-7b-nf4")
    assert find_default(models, weights) == large
    (large / "model.safetensors").unlink()
    assert find_default(models, weights) == models / "hilum-tiny"


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def without_a_tensor(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights[next(name for name in weights if name.endswith("layers.1.mlp.up_proj.weight"))]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def without_a_shard(folder: Path) -> None:
    shard(folder)
    (folder / "model-2.safetensors").unlink()


def with_a_shard_twice(folder: Path) -> None:
    shard(folder)
    shutil.copy(folder / "model-1.safetensors", folder / "model-2.safetensors")


def with_another_vocabulary(folder: Path) -> None:
    edit_json(folder / "config.json", image_token_index=7)


def without_image_token(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        path = folder / name
        path.write_text(path.read_text().replace("<image>", "<picture>"))


def with_wrong_widths(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["hidden_size"] = 128
    (folder / "config.json").write_text(json.dumps(config))


def in_the_original_layout(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "llava", "mm_vision_tower": "openai/clip"}))


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "gone": (shutil.rmtree, "There is no checkpoint at"),
    "no config": (without("config.json"), "no config.json"),
    "half a config": (lambda folder: (folder / "config.json").write_text("{") and None, "not a readable JSON"),
    "another model": (lambda folder: edit_json(folder / "config.json", model_type="llama"), "a llama model"),
    "original layout": (in_the_original_layout, "original LLaVA layout"),
    "gptq": (lambda f: edit_json(f / "config.json", quantization_config={"quant_method": "gptq"}), "quantised with gptq"),
    "no weights": (without("model.safetensors"), "model.safetensors is missing"),
    "empty weights": (lambda folder: (folder / "model.safetensors").write_bytes(b"") and None, "cut short"),
    "truncated weights": (truncated, "cut short"),
    "missing shard": (without_a_shard, "model-2.safetensors is missing"),
    "wrong shard": (with_a_shard_twice, "tensors are missing"),
    "missing tensor": (without_a_tensor, "1 tensors are missing"),
    "wrong widths": (with_wrong_widths, "cannot be loaded"),
    "no tokenizer": (without("tokenizer.json"), "no tokenizer.json"),
    "broken tokenizer": (lambda folder: (folder / "tokenizer.json").write_text("{}") and None, "cannot be loaded"),
    "another tokenizer": (with_another_vocabulary, "take both from one checkpoint"),
    "no <image>": (without_image_token, "<image> as None"),
    "broken manifest": (lambda folder: (folder / "hilum.json").write_text("[]") and None, "not a readable JSON"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_checkpoint_is_refused_in_one_sentence(case: str, folder: Path) -> None:
    damage, words = BROKEN[case]
    damage(folder)
    with pytest.raises(EngineUnavailable) as error:
        load(folder, "cpu", None)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("device", "words"), [("mps", "cpu and cuda"), ("nonsense", "cannot be loaded")])
def test_a_device_that_is_not_there_is_named(device: str, words: str, folder: Path) -> None:
    with pytest.raises(EngineUnavailable, match=words):
        load(folder, device, None)


@pytest.mark.skipif(torch.cuda.is_available(), reason="There is a CUDA device here.")
def test_cuda_without_a_gpu_says_what_to_do(folder: Path) -> None:
    with pytest.raises(EngineUnavailable, match="--device cpu"):
        load(folder, "cuda", None)


def test_four_bit_on_a_cpu_refuses_widths_that_its_kernel_cannot_take(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="multiples of 64"):
        load(tiny.build(tmp_path / "narrow", width=96), "cpu", True)
