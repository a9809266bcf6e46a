"""The examiner: one study -> the evidence that vision can vouch for, or the reason why it cannot.

Knows the classifier, the domain check and the saliency map, and the order in which they speak. Does not know language.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from vision.domain import Domain
from vision.evidence import Evidence, Finding, Refusal
from vision.resnet import Classifier, digest, load_classifier
from vision.saliency import Reference, explain
from vision.study import Study


@dataclass(frozen=True)
class Examiner:
    """A classifier behind its gates. `domain` None means a classifier that was shipped without one: nothing is refused.

    `digest` is the SHA-256 of its weights, `name` its folder's.
    """

    classifier: Classifier
    domain: Domain | None
    name: str
    digest: str
    reference: Reference = field(default_factory=Reference)

    def examine(self, study: Study) -> Evidence:
        """Is it a film at all, and of the population trained on? Then labels, probabilities, and a map with its peak.

        Three forward passes in all: the film, its mirror image, and the film shifted for the map's stability.
        """
        classifier, image = self.classifier, study.image
        pixels = classifier.pixels([image])
        both = classifier.see(torch.cat([pixels, pixels.flip(-1)]))  # two at once cost a third less than one by one
        look, mirrored = both.of(0), both.of(1)
        verdict = self.domain.judge(study, look) if self.domain else None
        if verdict and not verdict.in_domain:
            return Evidence(notes=("not_a_radiograph",), reason=verdict.reason)
        logits = np.float32(0.5) * (look.logits + mirrored.logits)
        probabilities = classifier.calibration.probabilities(logits)[0]
        named = {label: float(p) for label, p in zip(classifier.labels, probabilities, strict=True)}
        labels = classifier.calibration.label_set(probabilities, classifier.labels)
        shown = classifier.calibration.positive or classifier.labels[int(np.argmax(probabilities))]
        saliency = explain(classifier, image, look, shown, mirrored=mirrored, reference=self.reference)
        # A map says where a label would come from; where the label is not called, there is nothing to point at.
        is_called, heatmap = shown in labels, saliency.heatmap
        trusted = is_called and saliency.trusted
        doubt = saliency.doubt if is_called else "not_called"
        finding = Finding(shown, named[shown], heatmap, trusted, saliency.peak if trusted else None, doubt)
        notes: tuple[Refusal, ...] = ("map_untrusted",) if is_called and heatmap and not trusted else ()
        if verdict and not verdict.in_population:
            notes = ("outside_population",)
        return Evidence((finding,), labels, (), notes, verdict.reason if verdict else None, named)


def load_examiner(path: Path, device: str = "cpu") -> Examiner:
    """The classifier at `path` (a folder, or a `.pth`) with whatever gates lie beside its weights. Raises CheckpointError."""
    classifier = load_classifier(path, device)
    weights = digest(path)
    if path.is_file():
        return Examiner(classifier, None, path.name, weights)
    return Examiner(classifier, Domain.load(path, weights), path.name, weights, Reference.load(path, weights))
