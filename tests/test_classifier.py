"""The classifier: what is read, trained, kept, calibrated and measured, on tiny real networks and drawn films."""

import csv
import json
import logging
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification, ViTConfig, ViTForImageClassification

from finetune import classifier as command
from finetune.calibrate import SENSITIVITY, calibrate
from finetune.classifier import cross_fit, evaluate, main, split_samples, unseen
from finetune.fitting import MEAN, STD, Fit, Recipe, predict
from finetune.metrics import bootstrap, expected_calibration_error, grade
from finetune.records import RecordError, split_of
from finetune.samples import TRAINED_ON, Sample, find_samples, publish
from vision.evidence import CheckpointError
from vision.resnet import Calibration, Classifier, load_classifier, resnet34, squash

LABELS = ("NORMAL", "PNEUMONIA")
TINY = Recipe(size=32, epochs=3, batch=8)


def draw(rng: np.random.Generator, is_sick: bool) -> Image.Image:
    """A grey picture; a sick one is brighter below."""
    grey = rng.normal(90, 25, (48, 40))
    grey[24:] += 70 * is_sick
    return Image.fromarray(grey.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 60 drawn films by 40 patients each."""
    root, rng = tmp_path_factory.mktemp("films"), np.random.default_rng(0)
    for label in LABELS:
        (root / label).mkdir()
        for number in range(60):
            name = f"person{number // 3 * 2 + (label == 'NORMAL')}_virus_{number}.png"
            draw(rng, label == "PNEUMONIA").save(root / label / name)
    return root


def tiny_resnet() -> nn.Module:
    torch.manual_seed(0)
    config = ResNetConfig(layer_type="basic", depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16], embedding_size=8)
    config.id2label = dict(enumerate(LABELS))
    config.label2id = {label: index for index, label in enumerate(LABELS)}
    return ResNetForImageClassification(config)


def tiny_classifier(size: int = 32) -> Classifier:
    return Classifier(tiny_resnet(), squash(size, MEAN, STD))


class Block(nn.Module):
    """torchvision's basic block, by He et al. 2015."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.downsample = None
        if stride != 1 or inside != outside:
            self.downsample = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class Reference(nn.Module):
    """ResNet34 with torchvision's names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        inside = 64
        for stage, (depth, outside) in enumerate(zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True), start=1):
            blocks = [Block(inside, outside, 2 if stage > 1 else 1)] + [Block(outside, outside, 1) for _ in range(depth - 1)]
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
            inside = outside
        self.fc = nn.Linear(512, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


@pytest.mark.parametrize("wrapping", ["bare", "state_dict", "module"])
def test_a_torchvision_checkpoint_gives_the_references_logits(tmp_path: Path, wrapping: str) -> None:
    torch.manual_seed(1)
    reference = Reference()
    for module in reference.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.0)
    state = reference.state_dict()
    saved = {f"module.{name}": value for name, value in state.items()} if wrapping == "module" else state
    torch.save({"state_dict": saved} if wrapping == "state_dict" else saved, tmp_path / "best_resnet34_addval.pth")
    read = load_classifier(tmp_path / "best_resnet34_addval.pth")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        expected = reference.eval()(pixels).numpy()
    assert np.abs(read.look([image]).logits - expected).max() < 1e-4
    assert read.labels == LABELS and read.calibration.positive == "PNEUMONIA"


class Payload:
    """What a hostile checkpoint would run."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


def test_a_checkpoint_that_wants_to_run_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    torch.save({"fc.weight": Payload(tmp_path / "ran")}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_classifier(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"PK\3\4 not a zip", b"\x80\x02."])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(CheckpointError):
        load_classifier(tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="no classifier"):
        load_classifier(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError):
        load_classifier(tmp_path / "empty")


def test_a_checkpoint_of_another_shape_is_refused(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7), "fc.weight": torch.zeros(5, 512)}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError):
        load_classifier(tmp_path / "x.pth")


def test_serving_uses_the_transform_of_training_bit_for_bit(tmp_path: Path) -> None:
    trained = tiny_classifier(40)
    trained.save(tmp_path)
    served = load_classifier(tmp_path)
    image = draw(np.random.default_rng(3), True).convert("RGB").resize((123, 77))
    assert torch.equal(trained.pixels([image]), served.pixels([image]))
    assert served.pixels([image]).shape == (1, 3, 40, 40)
    assert np.abs(trained.look([image]).logits - served.look([image]).logits).max() < 1e-2  # weights are kept in 16 bits


def test_any_image_classifier_folder_can_take_its_place_with_its_own_labels(tmp_path: Path) -> None:
    config = ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8
    )
    config.id2label, config.label2id = {0: "clear", 1: "effusion", 2: "mass"}, {"clear": 0, "effusion": 1, "mass": 2}
    ViTForImageClassification(config).save_pretrained(tmp_path)
    squash(32, 0.5, 0.5).save_pretrained(tmp_path)
    read = load_classifier(tmp_path)
    look = read.look([draw(np.random.default_rng(0), False).convert("RGB")])
    assert read.labels == ("clear", "effusion", "mass") and look.logits.shape == (1, 3)
    assert read.head is None and look.features is None
    probabilities = read.calibration.probabilities(look.logits)
    assert probabilities.sum() == pytest.approx(1) and read.calibration.verdict(probabilities[0], read.labels) in read.labels


class Interrupt(logging.Handler):
    """Ends the program as Ctrl-C would, in the second epoch and before it was saved."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith("epoch 2"):
            raise KeyboardInterrupt


@pytest.fixture
def interrupted() -> Iterator[None]:
    log, handler = logging.getLogger("finetune.fitting"), Interrupt()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield
    log.removeHandler(handler)
    log.setLevel(level)


@pytest.fixture(scope="module")
def parts(films: Path) -> dict[str, list[Sample]]:
    return split_samples(find_samples(films), LABELS)


@pytest.fixture(scope="module")
def trained(parts: dict[str, list[Sample]], tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return Fit(parts, LABELS, TINY, tmp_path_factory.mktemp("whole"), tiny_resnet()).run()


def test_a_killed_training_resumes_to_the_same_weights(
    parts: dict[str, list[Sample]], trained: Classifier, tmp_path: Path, interrupted: None
) -> None:
    with pytest.raises(KeyboardInterrupt):
        Fit(parts, LABELS, TINY, tmp_path, tiny_resnet()).run()
    logging.getLogger("finetune.fitting").setLevel(logging.ERROR)
    resumed = Fit(parts, LABELS, TINY, tmp_path, tiny_resnet()).run()
    state, expected = resumed.model.state_dict(), trained.model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in expected.items())
    assert resumed.calibration == trained.calibration


@pytest.mark.slow
def test_training_leaves_curves_and_learns_what_is_easy(parts: dict[str, list[Sample]], tmp_path: Path) -> None:
    recipe = Recipe(size=32, epochs=12, batch=8, rate=1e-2)
    found = evaluate(Fit(parts, LABELS, recipe, tmp_path, tiny_resnet()).run(), parts["test"], True, 20)
    assert found["auc"] is not None and found["auc"] > 0.9
    assert list((tmp_path / "events").glob("events.out.tfevents*"))


def test_every_training_film_is_predicted_by_a_model_that_never_saw_its_patient(
    parts: dict[str, list[Sample]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "resnet34", lambda labels: tiny_resnet())  # 21 million weights would say the same, later
    cross_fit(parts, LABELS, Recipe(size=32, epochs=1, batch=8), tmp_path, 3)
    with (tmp_path / "out_of_fold.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["file"] for row in rows) == sorted(s.path.name for s in parts["train"])
    folds: dict[str, set[str]] = {}
    for row in rows:
        folds.setdefault(row["file"].split("_")[0], set()).add(row["fold"])
        assert float(row["NORMAL"]) + float(row["PNEUMONIA"]) == pytest.approx(1, abs=1e-4)
    assert {len(fold) for fold in folds.values()} == {1} and {row["fold"] for row in rows} == {"0", "1", "2"}


def test_the_commands_train_and_evaluate_a_folder(
    films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "resnet34", lambda labels: tiny_resnet())
    out = tmp_path / "out"
    flags = ["--data", str(films), "--out", str(out), "--size", "32", "--epochs", "1", "--batch", "16", "--json"]
    assert main(["train", *flags]) == 0
    assert json.loads(capsys.readouterr().out)["n"] > 0
    assert main(["evaluate", "--data", str(films), "--model", str(out), "--json", "--no-tta"]) == 0
    found = json.loads(capsys.readouterr().out)
    promised = {"accuracy", "auc", "f1", "sensitivity", "specificity", "ece", "confusion", "intervals", "tta", "shortcut_auc"}
    assert promised <= set(found) and found["tta"] is False
    held_out = [s for s in find_samples(films) if s.split == "test"]
    assert found["n"] == len(held_out) and found["left_out_as_trained_on"] == 120 - len(held_out)


def test_a_single_folder_without_patients_is_measured_as_far_as_one_class_can_be(
    trained: Classifier, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test/NORMAL").mkdir(parents=True)
    for number in range(4):
        draw(np.random.default_rng(number), False).save(tmp_path / f"test/NORMAL/photo {number}.png")
    (tmp_path / "model").mkdir()
    publish(trained, tmp_path / "model")
    assert main(["evaluate", "--data", str(tmp_path / "test"), "--model", str(tmp_path / "model"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["n"] == 4 and found["auc"] is None and found["sensitivity"] is None and found["specificity"] is not None


def test_a_folder_that_cannot_teach_is_refused_with_what_to_do(films: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(RecordError, match="folder per class"):
        find_samples(tmp_path)
    (tmp_path / "NORMAL").mkdir()
    (tmp_path / "NORMAL/notes.txt").write_text("no image")
    with pytest.raises(RecordError, match="no image"):
        find_samples(tmp_path)
    for number in range(60):
        draw(rng, False).save(tmp_path / f"NORMAL/person{number}_1.png")
    samples = find_samples(tmp_path)
    assert len(samples) == 60  # the note is left out
    with pytest.raises(RecordError, match="one class"):
        split_samples(samples, ("NORMAL",))
    (tmp_path / "PNEUMONIA").mkdir()
    draw(rng, True).save(tmp_path / "PNEUMONIA/only.png")
    with pytest.raises(RecordError, match=r"PNEUMONIA.*it has 1 in all"):
        split_samples(find_samples(tmp_path), LABELS)


def test_equal_pixels_are_one_film_whatever_the_file_is_called(tmp_path: Path) -> None:
    (tmp_path / "NORMAL").mkdir()
    image = draw(np.random.default_rng(0), False)
    image.save(tmp_path / "NORMAL/a.png")
    image.save(tmp_path / "NORMAL/b.bmp")
    assert len(find_samples(tmp_path)) == 1


def test_what_was_trained_on_is_never_measured_on(films: Path, tmp_path: Path) -> None:
    samples = find_samples(films)
    used = [s.digest for s in samples if s.split != "test"]
    (tmp_path / TRAINED_ON).write_text("\n".join(used))
    left, count = unseen(films, tmp_path, LABELS)
    assert {s.digest for s in left}.isdisjoint(used) and count == len(used)
    (tmp_path / TRAINED_ON).write_text("\n".join(s.digest for s in samples))
    with pytest.raises(RecordError, match="trained on"):
        unseen(films, tmp_path, LABELS)


FULL = """
import resource, signal, sys
from pathlib import Path
sys.path[:0] = [{root!r}, {tests!r}]
from test_classifier import tiny_classifier
from finetune.samples import publish
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
publish(tiny_classifier(), Path({out!r}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="this system does not limit file sizes")
def test_a_full_disk_leaves_the_checkpoint_that_stood_there(tmp_path: Path) -> None:
    publish(tiny_classifier(), tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    here = Path(__file__).parent
    script = FULL.format(root=str(here.parent), tests=str(here), out=str(tmp_path))
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ended.returncode != 0 and ("large" in ended.stderr or "Error" in ended.stderr)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


@given(st.integers(0, 2**31), st.floats(0.5, 4), st.floats(-2, 2))
def test_calibration_finds_the_scale_and_keeps_the_sensitivity(seed: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random(600) < 0.7
    signal = rng.normal(0, 1, 600) + 2.5 * (truth - 0.5)
    logits = np.stack([np.zeros(600), scale * signal + shift], 1).astype(np.float32)
    found = calibrate(logits, truth.astype(np.intp), LABELS, "PNEUMONIA")
    probabilities = found.probabilities(logits)
    assert expected_calibration_error(probabilities[:, 1].astype(float), truth) < 0.1
    assert (probabilities[truth, 1] >= found.threshold).mean() >= SENSITIVITY
    held = [LABELS[int(t)] in found.label_set(p, LABELS) for t, p in zip(truth, probabilities, strict=True)]
    assert np.mean(held) >= found.coverage


def test_a_label_set_can_hold_both_labels_and_none() -> None:
    wide = Calibration(quantiles={"NORMAL": 0.9, "PNEUMONIA": 0.9})
    narrow = Calibration(quantiles={"NORMAL": 0.1, "PNEUMONIA": 0.1})
    middle = np.array([0.5, 0.5], np.float32)
    assert wide.label_set(middle, LABELS) == LABELS
    assert narrow.label_set(middle, LABELS) == ()
    assert Calibration().label_set(middle, LABELS) == ("NORMAL",)


def test_a_label_never_stands_alone_against_its_own_probability() -> None:
    lenient = Calibration(quantiles={"NORMAL": 0.7, "PNEUMONIA": 0.2})
    assert lenient.label_set(np.array([0.35, 0.65], np.float32), LABELS) == LABELS
    assert lenient.label_set(np.array([0.65, 0.35], np.float32), LABELS) == ("NORMAL",)


def test_the_threshold_decides_for_the_positive_label_alone() -> None:
    calibration = Calibration(positive="PNEUMONIA", threshold=0.8)
    assert calibration.verdict(np.array([0.3, 0.7], np.float32), LABELS) == "NORMAL"
    assert calibration.verdict(np.array([0.1, 0.9], np.float32), LABELS) == "PNEUMONIA"


def test_grades_are_what_a_person_would_count() -> None:
    scores, truth = np.array([0.9, 0.8, 0.3, 0.6, 0.1]), np.array([True, True, True, False, False])
    found = grade(scores, truth, 0.5)
    assert found["accuracy"] == 0.6 and found["sensitivity"] == pytest.approx(2 / 3) and found["specificity"] == 0.5
    assert found["auc"] == pytest.approx(5 / 6) and found["f1"] == pytest.approx(2 / 3)
    low, high = bootstrap(lambda i: grade(scores[i], truth[i], 0.5), ["a", "b", "c", "d", "e"], 200)["accuracy"]
    assert low < 0.6 < high


def test_a_mirrored_image_has_the_same_averaged_logits(films: Path) -> None:
    model = tiny_classifier()
    image = draw(np.random.default_rng(1), True).convert("RGB").resize((32, 32))
    mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert np.allclose(model.logits([image]), model.logits([mirrored]), atol=1e-5)
    samples = find_samples(films)[:3]
    assert predict(model, samples, True).shape == (3, 2)
    assert split_of(samples[0].patient) == samples[0].split


def test_a_resnet34_has_the_published_size() -> None:
    assert sum(p.numel() for p in resnet34(LABELS).parameters()) == 21_285_698


@pytest.mark.parametrize("name", command.ARCHITECTURES)
def test_each_architecture_takes_the_films(name: str) -> None:
    model = command.architecture(name, LABELS, 64).eval()
    with torch.inference_mode():
        assert model(pixel_values=torch.zeros(1, 3, 64, 64)).logits.shape == (1, 2)


def test_architectures_are_compared_on_the_same_films(films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"model_type": "resnet", "layer_type": "basic", "depths": [1, 1], "hidden_sizes": [8, 8], "embedding_size": 8}
    monkeypatch.setattr(command, "ARCHITECTURES", {"small": small, "wide": {**small, "hidden_sizes": [16, 16]}})
    rows = command.compare(films, tmp_path, TINY)
    assert [row["architecture"] for row in rows] == ["small", "wide"]
    assert rows[0]["parameters"] < rows[1]["parameters"] and all(0 <= row["auc"] <= 1 for row in rows)
