"""Loading: from the settings to the engine, the writer and the examiner that they ask for.

Knows settings and where each part comes from. Does not know pages or terminals. Torch is imported late, by what needs it.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from chat.acceptance import Acceptance, read_acceptance
from chat.assistant import Assistant
from chat.engine.base import EngineError
from chat.pair import Paired
from chat.report.sheet import Weights
from chat.report.terminal import hashed
from chat.settings import Settings, is_address
from chat.writer import for_writer

if TYPE_CHECKING:
    from pydantic import SecretStr

    from chat.engine.local import LocalEngine
    from chat.engine.remote import RemoteEngine
    from chat.engine.text import TextEngine
    from vision.examiner import Examiner

ROOT = Path(__file__).parents[1]


def open_assistant(settings: Settings, offers: bool = False) -> Assistant:
    """All that answers, as the settings ask for it. Raises EngineError and CheckpointError.

    With `offers` an adapter that is installed beside the model is there too, and the base goes first.
    """
    named = _named_adapter(settings)
    engine, base = open_engines(settings, named or (_installed_adapter(settings) if offers else None))
    parts = (engine.input_side, open_writer(settings), open_examiner(settings))
    return Paired(engine, base, *parts, leads=named is not None) if base else Assistant(engine, *parts)


def _named_adapter(settings: Settings) -> Path | None:
    """The folder of the adapter that the settings name."""
    return None if settings.adapter in ("auto", "none") else Path(settings.adapter)


def _installed_adapter(settings: Settings) -> Path | None:
    """The folder MODEL-radiology beside the model's own, where `finetune.teach --install` has left one."""
    if settings.adapter == "none" or is_address(settings.model):
        return None
    folder = find_checkpoint(settings).resolve()
    beside = folder.with_name(f"{folder.name}-radiology")
    return beside if (beside / "adapter_config.json").is_file() else None


def open_engine(settings: Settings) -> "LocalEngine | RemoteEngine":
    """The engine that the settings ask for, ready to answer, with an adapter where they name one. Raises EngineError."""
    return open_engines(settings, _named_adapter(settings))[0]


def open_engines(settings: Settings, adapter: Path | None) -> "tuple[LocalEngine | RemoteEngine, LocalEngine | None]":
    """The engine that answers, and where it has an adapter its base over the same weights. Raises EngineError."""
    if is_address(settings.model):
        if adapter:
            raise EngineError("An adapter goes onto a checkpoint on this machine. Name its base's folder as --model.")
        return _connect(
            settings.model, settings.remote_name, settings.api_key, settings.remote_images, settings.remote_context
        ), None
    return open_local(find_checkpoint(settings), adapter, settings.device, settings.four_bit)


def open_local(
    folder: Path, adapter: Path | None = None, device: str = "auto", four_bit: bool | None = None
) -> "tuple[LocalEngine, LocalEngine | None]":
    """The checkpoint in a folder, or its adapter and the base itself over one copy of the weights. Raises EngineError."""
    from chat.engine import checkpoint
    from chat.engine.local import LocalEngine

    loaded = checkpoint.load(folder, device, four_bit)
    base, engine = None, LocalEngine(loaded)
    if adapter:
        from chat.engine.adapter import open_pair

        base, engine = open_pair(loaded, folder, adapter)
    engine.warm_up()
    return engine, base


def open_writer(settings: Settings) -> "TextEngine | RemoteEngine | None":
    """The model that writes the answers, where the settings ask for one. Raises EngineError."""
    if not settings.writer:
        return None
    try:
        if is_address(settings.writer):
            return _connect(settings.writer, settings.writer_name, settings.writer_key, max_images=0)
        from chat.engine import text

        return text.load(Path(settings.writer), settings.device, settings.four_bit)
    except EngineError as error:
        raise EngineError(for_writer(str(error))) from error


def open_examiner(settings: Settings) -> "Examiner | None":
    """The classifier behind its gates, and the segmenter, on the processor's own cores: a film costs a fifth of a second there.

    Raises CheckpointError.
    """
    if settings.classifier == "none":
        return None
    from vision.examiner import load_examiner

    classifier = ROOT / "models/resnet34-cxr" if settings.classifier == "auto" else Path(settings.classifier)
    segmenter = ROOT / "models/unet-lungs" if settings.segmenter == "auto" else Path(settings.segmenter)
    return load_examiner(classifier, segmenter=None if settings.segmenter == "none" else segmenter)


def weights_in_use(settings: Settings, assistant: Assistant) -> list[Weights]:
    """Every model that has a say, with the hashes of its weights where they lie on this machine."""
    engine, writer, examiner = assistant.engine, assistant.writer, assistant.examiner
    found = [Weights(engine.name)] if is_address(settings.model) else hashed(engine.name, find_checkpoint(settings))
    if settings.writer and writer:
        found += [Weights(writer.name)] if is_address(settings.writer) else hashed(writer.name, Path(settings.writer))
    if adapter := _named_adapter(settings):
        found += hashed(engine.name, adapter)
    return found + ([Weights(*named) for named in examiner.weights] if examiner else [])


def find_checkpoint(settings: Settings) -> Path:
    """The folder of the model: the one that is named, or the best that is there."""
    from chat.engine.checkpoint import find_default

    return find_default(ROOT / "models", ROOT / "weights") if settings.model == "auto" else Path(settings.model)


def _connect(
    address: str, name: str | None, key: "SecretStr | None", max_images: int, context_tokens: int | None = None
) -> "RemoteEngine":
    from chat.engine.address import read_address
    from chat.engine.remote import connect

    return connect(read_address(address), name, key.get_secret_value() if key else "", max_images, context_tokens)


def acceptance_of(settings: Settings) -> Acceptance:
    """When a hit of a search is believed: as it was fitted to the model, or carefully where none is of our own."""
    return Acceptance() if is_address(settings.model) else read_acceptance(find_checkpoint(settings))
