"""Checkpoints that are not what they say: cut, shuffled, of another architecture, or with code in them. None is served."""

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from chat.engine.base import EngineUnavailable
from chat.engine.checkpoint import load
from chat.engine.quantize import checkpoint_files
from chat.engine.store import entry, seal
from vision.evidence import CheckpointError
from vision.resnet import load_classifier
from vision.unet import Plan, Segmenter, load_segmenter, unet

WEIGHTS = "model.safetensors"


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("originals")
    tiny.build(folder / "llava")
    tiny.build_classifier(folder / "classifier", population=None)
    (folder / "segmenter").mkdir()
    Segmenter(unet(2, (8, 16)), Plan(("gas", "fluid"), 32, (8, 16))).save(folder / "segmenter")
    return folder


READERS: dict[str, Callable[[Path], object]] = {
    "llava": lambda folder: load(folder, "cpu", None),
    "classifier": load_classifier,
    "segmenter": load_segmenter,
}


@pytest.fixture(params=READERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(kind: str, originals: Path, tmp_path: Path) -> Path:
    return shutil.copytree(originals / kind, tmp_path / kind)


def refused(kind: str, folder: Path) -> str:
    with pytest.raises((EngineUnavailable, CheckpointError)) as error:
        READERS[kind](folder)
    assert "\n" not in str(error.value) and str(error.value).endswith(".")
    return str(error.value)


def lying(header: dict[str, object], body: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
LIES = {
    "nothing": b"",
    "a header without end": struct.pack("<Q", 2**63) + b"{}",
    "a header that is no JSON": struct.pack("<Q", 9) + b"{" * 9,
    "a tensor behind the end": lying({"a": TENSOR | {"data_offsets": [0, 2**40], "shape": [2**38]}}, bytes(8)),
    "a tensor smaller than its shape": lying({"a": TENSOR | {"shape": [2**40]}}, bytes(8)),
    "two tensors in one place": lying({"a": TENSOR, "b": TENSOR}, bytes(8)),
    "an unknown number": lying({"a": TENSOR | {"dtype": "Q99"}}, bytes(8)),
    "a pickle": pickle.dumps([1, 2, 3]),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_header_is_refused(lie: str, kind: str, folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(LIES[lie])
    refused(kind, folder)


def test_weights_that_break_off_are_refused(kind: str, folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1])
    refused(kind, folder)


def test_a_tensor_that_is_missing_is_not_made_up(kind: str, folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    weights.pop(max(weights))
    save_file(weights, folder / WEIGHTS, {"format": "pt"})
    refused(kind, folder)


def test_weights_of_another_architecture_are_refused(kind: str, folder: Path, originals: Path) -> None:
    other = {"llava": "classifier", "classifier": "segmenter", "segmenter": "llava"}[kind]
    shutil.copy(originals / other / WEIGHTS, folder / WEIGHTS)
    refused(kind, folder)


def test_a_tensor_of_another_shape_is_refused(kind: str, folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    name = max(name for name, value in weights.items() if value.dim() > 1)
    save_file(weights | {name: weights[name][:-1].clone()}, folder / WEIGHTS, {"format": "pt"})
    refused(kind, folder)


def test_a_pickle_in_the_place_of_safetensors_is_not_opened(kind: str, folder: Path, tmp_path: Path) -> None:
    (folder / WEIGHTS).unlink()
    for name in ("pytorch_model.bin", "model.bin", "model.pth"):
        torch.save({"weight": Payload(tmp_path / "ran")}, folder / name)
    refused(kind, folder)
    assert not (tmp_path / "ran").exists()


def test_code_in_a_folder_is_never_run(kind: str, folder: Path, tmp_path: Path) -> None:
    code = f"import os\nos.mkdir({str(tmp_path / 'ran')!r})\nclass Own: pass\n"
    (folder / "own.py").write_text(code)
    names = ("AutoConfig", "AutoModelForImageTextToText", "AutoModelForImageClassification", "AutoImageProcessor")
    auto = {**dict.fromkeys(names, "own.Own"), "AutoTokenizer": ["own.Own", "own.Own"]}
    for name in ("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json"):
        known = json.loads((folder / name).read_text()) if (folder / name).is_file() else {}
        (folder / name).write_text(json.dumps(known | {"auto_map": auto}))
    with suppress(EngineUnavailable, CheckpointError):
        READERS[kind](folder)  # as if the code were not there, or not at all
    if kind == "classifier":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"model_type": "own"}))
        refused(kind, folder)
    assert not (tmp_path / "ran").exists()


def shuffle(folder: Path) -> None:
    """Two tensors of one shape change places: every name and shape is right."""
    weights = load_file(folder / WEIGHTS)
    one, other = (f"model.language_model.layers.{layer}.mlp.up_proj.weight" for layer in (0, 1))
    if one not in weights:
        one, other = (name.replace("model.language_model", "language_model.model") for name in (one, other))
    save_file(weights | {one: weights[other].clone(), other: weights[one].clone()}, folder / WEIGHTS, {"format": "pt"})


def test_shuffled_weights_are_refused_where_a_manifest_knows_them(originals: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(originals / "llava", tmp_path / "llava")
    seal(folder, {}, {path.name: entry(path) for path in checkpoint_files(folder)})
    load(folder, "cpu", None)
    shuffle(folder)
    assert "SHA-256" in refused("llava", folder)


def test_a_manifest_that_lies_about_a_file_is_refused(originals: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(originals / "llava", tmp_path / "llava")
    for files in ({WEIGHTS: {"bytes": 1, "sha256": "0" * 64}}, {"../x": {"bytes": 1, "sha256": "0" * 64}}, {WEIGHTS: 1}):
        (folder / "manifest.json").write_text(json.dumps({"source": {}, "files": files}))
        refused("llava", folder)
