"""Layouts: every kind of LLaVA folder that loads, and one clear sentence for what does not.

The original folder is the recorded fixture of `tests/parity`, whose answers `test_parity.py` compares with the reference.
"""

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from chat.engine.base import EngineUnavailable, Sampling
from chat.engine.checkpoint import load
from chat.engine.layouts import as_hugging_face
from chat.engine.local import LocalEngine
from chat.engine.shards import find_weights, read_shard, write_shards, written_whole

FIXTURE = Path(__file__).parent / "parity" / "fixture"
TOWER = "clip-vit-large-patch14-336"
SHARD = "pytorch_model-00002-of-00002.bin"


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """LLaVA-1.5 as its authors publish it, its tower beside it."""
    shutil.copytree(FIXTURE / TOWER, tmp_path / TOWER)
    return shutil.copytree(FIXTURE / "llava-v1.5-narrow", tmp_path / "llava-v1.5-narrow")


def read(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for file in find_weights(folder) for name, tensor in read_shard(file).items()}


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def rewrite(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """The same folder with these weights, in one file."""
    for path in folder.glob("pytorch_model*"):
        path.unlink()
    torch.save(tensors, folder / "pytorch_model.bin")


def answer(folder: Path) -> tuple[int, ...]:
    stream = LocalEngine(load(folder, "cpu", None)).stream(
        tiny.question("폐렴?", tiny.picture(1)), Sampling(12, temperature=0), "a"
    )
    return tuple(token for delta in stream for token in delta.ids)


def test_a_hugging_face_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = tiny.build(tmp_path / "tiny")
    assert as_hugging_face(folder) == folder
    assert list(tmp_path.iterdir()) == [folder]


def test_an_original_folder_is_converted_once_and_again_when_it_changes(original: Path) -> None:
    converted = as_hugging_face(original)
    assert converted == original.with_name("llava-v1.5-narrow-hf")
    first = converted.stat().st_ino
    assert as_hugging_face(original) == converted
    assert converted.stat().st_ino == first
    weights = torch.load(original / SHARD)
    torch.save({name: tensor * 0.5 for name, tensor in weights.items()}, original / SHARD)
    as_hugging_face(original)
    name = next(name for name in weights if name.startswith("model.layers."))
    ours = read(converted)["language_model." + name]
    assert torch.equal(ours, weights[name] * 0.5)
    assert sorted(path.name for path in original.parent.iterdir()) == sorted([TOWER, original.name, converted.name])


def test_the_new_tokens_stand_where_the_published_conversion_has_them(original: Path) -> None:
    loaded = load(original, "cpu", None)
    vocabulary = loaded.tokenizer.get_vocab()
    assert (vocabulary["<image>"], vocabulary["<pad>"], loaded.image_token_id) == (512, 513, 512)
    config: Any = loaded.model.config
    assert config.text_config.vocab_size == 576
    assert loaded.limits.max_images == 1
    assert loaded.end_ids == {2}


def test_safetensors_and_weights_with_their_tower_inside_convert_to_the_same(original: Path) -> None:
    wanted = read(as_hugging_face(original))
    weights = read(original)
    tower = {name: tensor for name, tensor in read(original.parent / TOWER).items() if name.startswith("vision_model.")}
    whole = shutil.copytree(original, original.with_name("whole"), ignore=shutil.ignore_patterns("*.bin*"))
    save_file(
        weights | {f"model.vision_tower.vision_tower.{name}": value for name, value in tower.items()},
        whole / "model.safetensors",
    )
    (original.parent / TOWER / "pytorch_model.bin").unlink()
    ours = read(as_hugging_face(whole))
    assert ours.keys() == wanted.keys()
    assert all(torch.equal(ours[name], wanted[name]) for name in wanted)


def test_a_mistral_of_the_same_family_answers_as_its_own_kind(original: Path) -> None:
    wanted = answer(original)
    edit(original / "config.json", model_type="llava_mistral", sliding_window=None)
    assert answer(original) == wanted
    config: Any = load(original, "cpu", None).model.config
    assert config.text_config.model_type == "mistral"


@pytest.fixture
def lora(original: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    """A LoRA folder as the reference's training writes it, and the weights that peft makes of it."""
    own = json.loads((original / "config.json").read_text())
    base: Any = LlamaForCausalLM(LlamaConfig(**{key: own[key] for key in LlamaConfig().to_dict() if key in own}))
    weights = read(original)
    base.load_state_dict({name: value for name, value in weights.items() if "mm_projector" not in name})
    torch.manual_seed(1)
    model: Any = get_peft_model(
        base,
        LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], init_lora_weights=False, task_type="CAUSAL_LM"),
    )
    folder = original.with_name("llava-v1.5-narrow-lora")
    model.save_pretrained(folder)
    edit(folder / "adapter_config.json", base_model_name_or_path="someone/llava-v1.5-narrow")
    shutil.copy(original / "config.json", folder)
    projector = {f"base_model.model.{name}": value + 1 for name, value in weights.items() if "mm_projector" in name}
    torch.save(projector, folder / "non_lora_trainables.bin")
    return folder, dict(model.merge_and_unload().state_dict())


def test_a_lora_folder_is_merged_over_its_base_as_peft_merges_it(
    lora: tuple[Path, dict[str, torch.Tensor]], original: Path
) -> None:
    folder, wanted = lora
    ours, plain = read(as_hugging_face(folder)), read(as_hugging_face(original))
    changed = {name for name in plain if not torch.equal(ours[name], plain[name])}
    assert changed == {
        name for name in plain if ("q_proj" in name and "language" in name) or "down_proj" in name or "projector" in name
    }
    for name in (name for name in changed if "layers" in name):
        torch.testing.assert_close(ours[name], wanted[name.removeprefix("language_model.")], rtol=0, atol=1e-6)
    bias = "multi_modal_projector.linear_1.bias"
    assert torch.equal(ours[bias], plain[bias] + 1)
    assert load(folder, "cpu", None).name == "llava-v1.5-narrow-lora-hf"


def test_a_lora_folder_without_its_base_or_over_another_says_so(lora: tuple[Path, Any], original: Path) -> None:
    folder, _ = lora
    with_another = {
        name.replace("layers.1", "layers.7"): value for name, value in load_file(folder / "adapter_model.safetensors").items()
    }
    save_file(with_another, folder / "adapter_model.safetensors")
    with pytest.raises(EngineUnavailable, match="another base"):
        load(folder, "cpu", None)
    edit(folder / "adapter_config.json", use_dora=True)
    with pytest.raises(EngineUnavailable, match="use_dora"):
        load(folder, "cpu", None)
    shutil.rmtree(original)
    with pytest.raises(EngineUnavailable, match="is a LoRA folder over someone/llava-v1"):
        load(folder, "cpu", None)


def with_config(**values: object) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "config.json", **values)


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def without_tensors(part: str) -> Callable[[Path], None]:
    return lambda folder: rewrite(folder, {name: value for name, value in read(folder).items() if part not in name})


def cut(folder: Path) -> None:
    path = folder / SHARD
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


class Payload:
    """Writes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("/tmp/hilum-test-payload-ran"),)


def with_code(folder: Path) -> None:
    torch.save({"model.norm.weight": Payload()}, folder / SHARD)


def with_bare_pickle(folder: Path) -> None:
    (folder / SHARD).write_bytes(pickle.dumps(Payload()))


def with_one_tensor_more(folder: Path) -> None:
    rewrite(folder, read(folder) | {"model.image_newline": torch.zeros(64)})


def with_another_shape(folder: Path) -> None:
    rewrite(folder, read(folder) | {"model.norm.weight": torch.zeros(32)})


def with_an_index_that_climbs(folder: Path) -> None:
    edit(folder / "pytorch_model.bin.index.json", weight_map={"a": f"../{TOWER}/pytorch_model.bin"})


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "LLaVA-NeXT": (with_config(image_aspect_ratio="anyres", mm_patch_merge_type="spatial_unpad"), "LLaVA-NeXT"),
    "mpt": (with_config(model_type="llava_mpt"), "holds a llava_mpt model"),
    "Qwen-VL": (with_config(model_type="qwen2_vl"), "holds a qwen2_vl model"),
    "linear projector": (with_config(mm_projector_type="linear"), "its projector is linear"),
    "no vision": (with_config(mm_vision_tower=None), "names no vision tower"),
    "marked pictures": (with_config(mm_use_im_start_end=True), "<im_start>"),
    "cropped pictures": (with_config(image_aspect_ratio="square"), "not trained on pictures padded"),
    "no projector weights": (without_tensors("mm_projector"), "holds no projector"),
    "missing tensor": (without_tensors("layers.1.mlp.up_proj"), "1 tensors lack or do not fit, such as language_model.model"),
    "another tensor": (with_one_tensor_more, "image_newline"),
    "another shape": (with_another_shape, "do not fit, such as language_model.model.norm"),
    "missing shard": (without(SHARD), f"{SHARD} is missing"),
    "no weights": (lambda folder: [path.unlink() for path in folder.glob("pytorch_model*")] and None, "no pytorch_model.bin"),
    "half a shard": (cut, "damaged, cut short"),
    "empty shard": (lambda folder: (folder / SHARD).write_bytes(b"") and None, "damaged, cut short"),
    "garbage": (lambda folder: (folder / SHARD).write_bytes(b"<html>" * 99) and None, "damaged, cut short"),
    "code": (with_code, "could run code"),
    "a bare pickle": (with_bare_pickle, "damaged, cut short"),
    "not tensors": (lambda folder: torch.save([1, 2], folder / SHARD), "not a file of weights"),
    "climbing index": (with_an_index_that_climbs, "is missing"),
    "no tokenizer": (without("tokenizer.model"), "holds no tokenizer.model"),
    "broken tokenizer": (lambda folder: (folder / "tokenizer.model").write_bytes(b"?") and None, "cannot be loaded"),
    "smaller vocabulary": (with_config(vocab_size=500), "more tokens than the model"),
    "no tower": (lambda folder: shutil.rmtree(folder.parent / TOWER), f"does not hold its vision tower, openai/{TOWER}: fetch"),
    "half a tower": (lambda folder: (folder.parent / TOWER / "pytorch_model.bin").write_bytes(b"PK") and None, "cut short"),
    "in the way": (lambda folder: folder.with_name(f"{folder.name}-hf").mkdir(), "which is in the way"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_converted_is_refused_in_one_sentence_and_leaves_nothing(case: str, original: Path) -> None:
    damage, words = REFUSED[case]
    damage(original)
    before = sorted(original.parent.iterdir())
    with pytest.raises(EngineUnavailable) as error:
        load(original, "cpu", None)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert sorted(original.parent.iterdir()) == before
    assert not Path("/tmp/hilum-test-payload-ran").exists()


def test_a_conversion_that_was_killed_is_begun_again(original: Path) -> None:
    left = original.with_name(".llava-v1.5-narrow-hf.part")
    left.mkdir()
    (left / "model-00001.safetensors").write_bytes(b"half")
    assert set(read(as_hugging_face(original))) == set(read(as_hugging_face(original)))
    assert not left.exists()


def test_shards_hold_no_more_than_asked_and_everything_is_in_the_index(tmp_path: Path) -> None:
    tensors = {f"t{i}": torch.full((250,), float(i)) for i in range(7)}
    assert write_shards(tmp_path, iter(tensors.items()), most_bytes=2000) == dict.fromkeys(tensors, (250,))
    assert len(find_weights(tmp_path)) == 4
    assert all(torch.equal(value, tensors[name]) for name, value in read(tmp_path).items())
    assert read(tmp_path).keys() == tensors.keys()


def test_a_disk_with_too_little_room_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with (
        pytest.raises(EngineUnavailable, match=r"takes 1,152,921,504,606,846,976 bytes, .* are free"),
        written_whole(tmp_path / "a", 1 << 60),
    ):
        pytest.fail("It began.")
    assert list(tmp_path.iterdir()) == []


FILL = """
import sys; from pathlib import Path; import torch
from chat.engine.base import EngineUnavailable; from chat.engine.shards import write_shards, written_whole
try:
    with written_whole(Path(sys.argv[1]) / "a", 1) as part:
        write_shards(part, iter([("t", torch.zeros(1 << 20))]))
except EngineUnavailable as error:
    print(error, list(Path(sys.argv[1]).iterdir()))
"""


def test_a_disk_that_fills_up_is_named_and_left_clean(tmp_path: Path) -> None:
    mounted = f"mount -t tmpfs -o size=1m tmpfs {tmp_path}"
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "sh", "-c", mounted], capture_output=True).returncode:
        pytest.skip("No small file system can be mounted here.")
    command = ["unshare", "-rm", "sh", "-c", f'{mounted} && exec "$0" -c "$1" {tmp_path}', sys.executable, FILL]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    assert "takes 1 bytes, and the disk is full (" in said
    assert said.strip().endswith("then start again. []")
