"""The report from a terminal: written section by section, then saved as the file that the person named.

Knows files, the assistant and standard error. Does not know pages or how a model is loaded.
"""

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from chat.assistant import Assistant
from chat.engine.base import Sampling
from chat.report.export import export, kind_of
from chat.report.sheet import Weights, overlay_of
from chat.report.write import write_report
from chat.wording import SECTIONS, Language
from vision.study import Study


def report(
    assistant: Assistant, study: Study, language: Language, sampling: Sampling, out: Path, weights: Sequence[Weights] = ()
) -> None:
    """Write the report on `study` to `out`, whose ending names the format; progress goes to stderr.

    Raises RequestError for another ending, before anything is asked, and OSError when the file cannot be written.
    """
    kind, evidence = kind_of(out), assistant.examine(study)
    with tqdm(total=len(SECTIONS), unit="section", disable=None) as bar:
        for step in write_report(assistant, study, evidence, language, sampling):
            bar.update(len(step.sections) - bar.n)
    out.write_bytes(export(step, kind, overlay_of(study, evidence), weights))
    if step.trouble:
        print(f"hilum: the model could not write all of it; rules did. {step.trouble}", file=sys.stderr)


def hashed(name: str, folder: Path) -> list[Weights]:
    """The weights in a model's folder with their SHA-256, one for each file. Raises OSError."""
    digests: list[Weights] = []
    files = sorted(folder.glob("*.safetensors"))
    for path in files:
        with path.open("rb") as file:
            shown = name if len(files) == 1 else f"{name}/{path.name}"
            digests.append(Weights(shown, hashlib.file_digest(file, "sha256").hexdigest()))
    return digests
