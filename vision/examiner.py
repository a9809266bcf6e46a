"""The examiner: one study -> the evidence that vision can vouch for, or the reason why it cannot.

Knows the classifier, the domain check, the segmenter and the saliency map, and the order in which they speak. Does not know
language.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from vision.domain import Domain
from vision.evidence import LUNGS, CheckpointError, Evidence, Finding, Mask, Refusal, Region
from vision.reference import Reference
from vision.resnet import Classifier, digest, load_classifier
from vision.saliency import explain
from vision.study import Study
from vision.unet import Segmenter, open_segmenter


@dataclass(frozen=True)
class Examiner:
    """A classifier behind its gates. `domain` None means a classifier that was shipped without one: nothing is refused.

    `digest` is the SHA-256 of its weights, `name` its folder's. `segmenter` builds itself at the first call, which takes
    seconds; `segmented_by` is its name and digest.
    """

    classifier: Classifier
    domain: Domain | None
    name: str
    digest: str
    reference: Reference = field(default_factory=Reference)
    segmenter: Callable[[], Segmenter] | None = None
    segmented_by: tuple[str, str] | None = None

    @property
    def weights(self) -> tuple[tuple[str, str], ...]:
        """(name, SHA-256) of every model that has a part in the evidence."""
        return ((self.name, self.digest), *([self.segmented_by] if self.segmented_by else []))

    def warm_up(self) -> None:
        """Build the segmenter now; if that fails, the first film says why."""
        with suppress(CheckpointError):
            if self.segmenter:
                self.segmenter()

    def examine(self, study: Study) -> Evidence:
        """Is it a film at all, and of the population trained on? Then masks, labels, probabilities, and a map with its peak.

        Three forward passes in all: the film, its mirror image, and the film shifted for the map's stability; and the
        segmenter's. Raises CheckpointError when the segmenter turns out to be damaged.
        """
        classifier, image = self.classifier, study.image
        pixels = classifier.pixels([image])
        both = classifier.see(torch.cat([pixels, pixels.flip(-1)]))  # two at once cost a third less than one by one
        look, mirrored = both.of(0), both.of(1)
        verdict = self.domain.judge(study, look) if self.domain else None
        if verdict and not verdict.in_domain:
            why = verdict.reason
            return Evidence(notes=("not_a_radiograph",), reason=why, mask_reason=why if self.segmenter else None)
        regions, lungs, unmasked = self._segment(study)
        logits = np.float32(0.5) * (look.logits + mirrored.logits)
        probabilities = classifier.calibration.probabilities(logits)[0]
        named = {label: float(p) for label, p in zip(classifier.labels, probabilities, strict=True)}
        labels = classifier.calibration.label_set(probabilities, classifier.labels)
        shown = classifier.calibration.positive or classifier.labels[int(np.argmax(probabilities))]
        saliency = explain(classifier, image, look, shown, lungs, mirrored, self.reference)
        # A map says where a label would come from; where the label is not called, there is nothing to point at.
        is_called, heatmap = shown in labels, saliency.heatmap
        trusted = is_called and saliency.trusted
        doubt = saliency.doubt if is_called else "not_called"
        peak, inside = (saliency.peak, saliency.inside) if trusted else (None, None)
        finding = Finding(shown, named[shown], heatmap, trusted, peak, doubt, inside)
        notes: tuple[Refusal, ...] = ("map_untrusted",) if is_called and heatmap and not trusted else ()
        if verdict and not verdict.in_population:
            notes = ("outside_population",)
        return Evidence((finding,), labels, regions, notes, verdict.reason if verdict else None, named, unmasked)

    def _segment(self, study: Study) -> tuple[tuple[Region, ...], tuple[Mask, ...], str | None]:
        """What was found on a film, the lungs among it, or why nothing is shown: what should be lungs has to look like two."""
        if self.segmenter is None:
            return (), (), None
        found = self.segmenter().segment(study.image, study.spacing)
        if set(LUNGS) <= {mask.label for mask in found.masks} and not found.is_two_lungs:
            return (), (), "not_two_lungs"
        return tuple(region for region in found.regions if region.box), found.lungs, None


def load_examiner(path: Path, device: str = "cpu", segmenter: Path | None = None) -> Examiner:
    """The classifier at `path` (a folder, or a `.pth`) with whatever gates lie beside its weights, and a segmenter's folder.

    Raises CheckpointError.
    """
    classifier = load_classifier(path, device)
    weights, domain, reference = digest(path), None, Reference()
    if path.is_dir():
        domain, reference = Domain.load(path, weights), Reference.load(path, weights)
    if segmenter is None:
        return Examiner(classifier, domain, path.name, weights, reference)
    opened = open_segmenter(segmenter, device)
    return Examiner(classifier, domain, path.name, weights, reference, opened, (segmenter.name, digest(segmenter)))
