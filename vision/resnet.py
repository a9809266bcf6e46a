"""The classifier: a film's labels with calibrated probabilities, and the last feature maps that saliency is read from.

Knows pixels and one checkpoint of transformers' image classifiers. Does not know language, evidence or how it was trained.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification, ResNetConfig
from transformers.models.resnet.modeling_resnet import ResNetForImageClassification
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from vision.evidence import CheckpointError

CALIBRATION = "calibration.json"


@dataclass(frozen=True)
class Calibration:
    """How logits become probabilities, a verdict and a label set.

    probabilities = softmax(logits / temperature + bias): temperature scaling with a bias for the prior (Guo et al. 2017;
    Alexandari et al. 2020). `threshold` is the probability of `positive` from which it is the verdict; without one the
    largest probability decides. `quantiles` hold, per label, the class-conditional conformal quantile of 1 - p (Vovk 2012);
    `coverage` is what they aim at.
    """

    temperature: float = 1.0
    bias: tuple[float, ...] = ()
    positive: str | None = None
    threshold: float = 0.5
    quantiles: Mapping[str, float] | None = None
    coverage: float = 0.95

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, k) logits -> (n, k) probabilities."""
        scaled = logits / self.temperature + (np.asarray(self.bias, np.float32) if self.bias else 0)
        powers = np.exp(scaled - scaled.max(-1, keepdims=True))
        return cast("NDArray[np.float32]", (powers / powers.sum(-1, keepdims=True)).astype(np.float32))

    def verdict(self, probabilities: NDArray[np.float32], labels: Sequence[str]) -> str:
        """The one label of a film, from its (k,) probabilities."""
        if self.positive is None or self.positive not in labels:
            return labels[int(probabilities.argmax())]
        sick = labels.index(self.positive)
        others = np.delete(np.arange(len(labels)), sick)
        return self.positive if probabilities[sick] >= self.threshold else labels[int(others[probabilities[others].argmax()])]

    def label_set(self, probabilities: NDArray[np.float32], labels: Sequence[str]) -> tuple[str, ...]:
        """The conformal label set of (k,) probabilities: possibly several labels, possibly none; the verdict alone when
        the checkpoint was never calibrated. One label that is not the likeliest would contradict its own probability, so
        the likeliest joins it.
        """
        if self.quantiles is None:
            return (self.verdict(probabilities, labels),)
        held = [1 - p <= self.quantiles.get(label, 0.0) for label, p in zip(labels, probabilities, strict=True)]
        held[int(probabilities.argmax())] |= sum(held) == 1
        return tuple(label for label, is_held in zip(labels, held, strict=True) if is_held)


@dataclass(frozen=True)
class Look:
    """What one pass over n images gave.

    `logits` (n, k); `features` (n, channels, h, w), the maps before pooling, None for an architecture that has none;
    `finer`, likewise, those of the stage before; `embedding` (n, channels), the mean of `features`, or the logits where there
    are no maps. `stages` (n, d) summarises the maps of every stage, first to last, for the domain check (see `_summary`); None
    likewise, and where it was not asked for. `pixels` (n, 3, height, width) are what the pass was given.
    """

    logits: NDArray[np.float32]
    features: NDArray[np.float32] | None
    embedding: NDArray[np.float32]
    stages: NDArray[np.float32] | None = None
    pixels: torch.Tensor | None = None
    finer: NDArray[np.float32] | None = None

    def of(self, index: int) -> "Look":
        """What the pass gave for one of the images."""
        one: dict[str, Any] = {name: None if part is None else part[index : index + 1] for name, part in vars(self).items()}
        return Look(**one)


class Classifier:
    """An image classifier with the transform that it was trained with, and its calibration."""

    def __init__(self, model: nn.Module, transform: Any, calibration: Calibration = Calibration()) -> None:
        self.model, self.transform, self.calibration = model.eval(), transform, calibration
        names = cast("dict[int, str]", cast(Any, model).config.id2label)
        self.labels = tuple(names[index] for index in range(len(names)))

    @property
    def head(self) -> NDArray[np.float32] | None:
        """(k, channels) weights of the one linear layer behind global average pooling; None for other architectures."""
        if not isinstance(self.model, ResNetForImageClassification):
            return None
        linear = cast(nn.Linear, self.model.classifier[-1])
        return cast("NDArray[np.float32]", linear.weight.detach().float().cpu().numpy())

    def pixels(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """RGB images of any size -> (n, 3, height, width) as the checkpoint's own transform makes them."""
        return cast(torch.Tensor, self.transform(images=list(images), return_tensors="pt")["pixel_values"])

    def look(self, images: Sequence[Image.Image]) -> Look:
        """One forward pass over the images."""
        return self.see(self.pixels(images))

    @torch.inference_mode()
    def see(self, pixels: torch.Tensor, with_stages: bool = True) -> Look:
        """One forward pass over `pixels` as `pixels()` makes them."""
        weight = next(self.model.parameters())
        given = pixels.to(weight.device, weight.dtype, memory_format=torch.channels_last)
        if self.head is None:
            logits = self.model(pixel_values=given).logits.float().cpu().numpy()
            return Look(logits, None, logits, pixels=pixels)
        model = cast(Any, self.model)
        seen = model.resnet(given, output_hidden_states=True)
        logits = model.classifier(seen.pooler_output).float().cpu().numpy()
        finer, features = (maps.float().cpu().numpy() for maps in seen.hidden_states[-2:])
        embedding = seen.pooler_output.flatten(1).float().cpu().numpy()
        stages = _summary(seen.hidden_states).float().cpu().numpy() if with_stages else None
        return Look(logits, features, embedding, stages, pixels, finer)

    def logits(self, images: Sequence[Image.Image], mirrored: bool = True) -> NDArray[np.float32]:
        """(n, k) logits, with `mirrored` averaged with those of the mirrored images (test-time augmentation)."""
        pixels = self.pixels(images)
        plain = self.see(pixels, with_stages=False).logits
        return np.float32(0.5) * (plain + self.see(pixels.flip(-1), with_stages=False).logits) if mirrored else plain

    def save(self, folder: Path) -> None:
        """Write weights (16-bit safetensors), configuration, transform and calibration into `folder`."""
        half = {name: value.half() if value.is_floating_point() else value for name, value in self.model.state_dict().items()}
        cast(Any, self.model).save_pretrained(folder, state_dict={name: value.contiguous() for name, value in half.items()})
        self.transform.save_pretrained(folder)
        (folder / CALIBRATION).write_text(json.dumps(asdict(self.calibration), indent=2) + "\n", "utf-8")


def _summary(stages: Sequence[torch.Tensor]) -> torch.Tensor:
    """(n, d): standard deviation and mean of each stage's maps, and the last but one's on a grid of 3 x 3 (what is where)."""
    spread = [torch.cat(torch.std_mean(maps.flatten(2), 2, correction=0), 1) for maps in stages]
    return torch.cat([*spread, nn.functional.adaptive_avg_pool2d(stages[-2], 3).flatten(1)], 1)


def resnet34(labels: Sequence[str]) -> nn.Module:
    """A ResNet34 (He et al. 2015) with random weights and a head for `labels`."""
    config = ResNetConfig(layer_type="basic", depths=[3, 4, 6, 3], hidden_sizes=[64, 128, 256, 512])
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    return _channels_last(ResNetForImageClassification(config))


def _channels_last(model: nn.Module) -> nn.Module:
    """The memory layout in which convolutions are quickest, on either kind of device."""
    return cast(nn.Module, cast(Any, model).to(memory_format=torch.channels_last))


def squash(size: int, mean: float, std: float) -> ViTImageProcessorPil:
    """The transform that squeezes an image of any aspect into `size` x `size`, scales to 0..1 and normalises.

    Squeezing hides the aspect ratio, in which the class shows in the source data, and cuts nothing off.
    """
    return ViTImageProcessorPil(
        size={"height": size, "width": size}, resample=Image.Resampling.BILINEAR, image_mean=[mean] * 3, image_std=[std] * 3
    )


def load_classifier(path: Path, device: str = "cpu") -> Classifier:
    """A checkpoint folder of `AutoModelForImageClassification`, or a ResNet34 `.pth` with torchvision's names.

    Raises CheckpointError when it is missing, damaged, or would have to run code.
    """
    if not path.exists():
        raise CheckpointError(f"There is no classifier at {path.name}. Give a checkpoint folder or a .pth file.")
    try:
        classifier = _from_pth(path) if path.is_file() else _from_folder(path)
    except Exception as error:  # a damaged pickle or configuration raises nearly every class there is
        message = f"The classifier in {path.name} cannot be read: it is damaged, of another kind, or not weights alone."
        raise CheckpointError(f"{message} Copy it again, or train it with python -m finetune.classifier.") from error
    classifier.model.to(device)
    return classifier


def digest(path: Path) -> str:
    """SHA-256 of a classifier's weights, in its folder or its `.pth`: what is fitted to them belongs to no others."""
    with (path / "model.safetensors" if path.is_dir() else path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _from_folder(folder: Path) -> Classifier:
    mine: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    model, report = AutoModelForImageClassification.from_pretrained(
        folder,
        config=AutoConfig.from_pretrained(folder, **mine),
        dtype=torch.float32,
        use_safetensors=True,
        output_loading_info=True,
        **mine,
    )
    if report["missing_keys"]:  # transformers would draw them at random, and say so in its log alone
        raise ValueError("The weights are of another architecture, or not whole.")
    transform = AutoImageProcessor.from_pretrained(folder, **mine)
    kept = folder / CALIBRATION
    fields = json.loads(kept.read_text("utf-8")) if kept.exists() else {}
    fields["bias"] = tuple(fields.get("bias", ()))
    return Classifier(_channels_last(model), transform, Calibration(**fields))


_PTH_LABELS = ("NORMAL", "PNEUMONIA")


def _from_pth(file: Path) -> Classifier:
    """The earlier system's checkpoint: 224 x 224 pixels, 0 to 1, not normalised, two classes in alphabetical order."""
    state = torch.load(file, map_location="cpu", weights_only=True)
    for wrapper in ("state_dict", "model_state_dict", "model"):
        state = state.get(wrapper, state)
    model = resnet34(_PTH_LABELS)
    model.load_state_dict({_house_name(name.removeprefix("module.")): value for name, value in state.items()})
    return Classifier(model, squash(224, 0.0, 1.0), Calibration(positive=_PTH_LABELS[1]))


_NORMALIZED = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}


def _house_name(name: str) -> str:
    """torchvision's name of a ResNet34 parameter -> transformers'."""
    *where, leaf = name.split(".")
    match where:
        case ["conv1"]:
            return f"resnet.embedder.embedder.convolution.{leaf}"
        case ["bn1"] if leaf in _NORMALIZED:
            return f"resnet.embedder.embedder.normalization.{leaf}"
        case ["fc"]:
            return f"classifier.1.{leaf}"
        case [stage, block, *inner] if stage.startswith("layer"):
            layer = f"resnet.encoder.stages.{int(stage[5:]) - 1}.layers.{block}"
            match inner:
                case ["downsample", part]:
                    return f"{layer}.shortcut.{('convolution', 'normalization')[int(part)]}.{leaf}"
                case [part]:
                    kind = "convolution" if part.startswith("conv") else "normalization"
                    return f"{layer}.layer.{int(part[-1]) - 1}.{kind}.{leaf}"
    raise KeyError(name)
