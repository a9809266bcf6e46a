"""Pretraining: the embedded model from scratch, in three stages that resume after a kill.

    python -m finetune.pretrain --data FOLDER [--out runs/tiny] [--export models/hilum-tiny]
    python -m finetune.pretrain --data FOLDER --start models/hilum-tiny --seed 1 --out runs/more --export runs/more/model
    python -m finetune.pretrain samples [--data FOLDER]    # the data card: counts, and lessons to read

teacher   a ResNet34 on the films (finetune.teacher)
tower     a hybrid ViT that learns from the teacher and from drawn pictures (finetune.tower)
language  projector and Llama on dialogues about films, phantoms, scenes and oddities, the tower frozen

FOLDER holds NORMAL/ and PNEUMONIA/ with one film per file. With --start a model that is trained goes through the last stage
again, on the lessons of another seed; its tower and its tokenizer stay. The same seed gives the same model on the same machine.
"""

import argparse
import json
import logging
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import (
    AutoTokenizer,
    DPTModel,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerBase,
)
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from finetune import bridge, canvas, teacher, tower
from finetune.book import PRIMER_PAGES, Book
from finetune.classifier import SHIPPED
from finetune.data_card import describe
from finetune.emphasis import weigh
from finetune.films import Film, Films, find_films, load_pixels
from finetune.fitting import POSITIVE, predict
from finetune.lessons import texts
from finetune.loss import loss_of, validate
from finetune.mixing import find_parts
from finetune.progress import Progress
from finetune.records import RecordError
from finetune.tokenizer import train_tokenizer
from finetune.tower import Tower
from vision.evidence import CheckpointError
from vision.resnet import Classifier, load_classifier

log = logging.getLogger(__name__)

VOCABULARY = 4096
MOST_IMAGES, CONTEXT_TOKENS = 5, 2048
ROPE_THETA = 500_000.0
"""Slow rotations: what a patch shows is looked for over a whole dialogue, however far away it stands."""
PROJECTOR_RATE = 0.02
"""The projector's part of the learning rate: a patch's entries are a hundred times a word's, and at the full rate the
projector forgets within a few pages what `finetune.bridge` has laid into it."""
UNSEEN_PAGE = 1000
"""The page to validate by, of a book of its own."""
WARM_UP, DECAY = 0.01, 0.45
"""Parts of the language stage in which the learning rate rises, and falls (warm-up, stable, decay; Hu et al. 2024)."""
RATE, AGAIN = 1.5e-3, 0.5
"""The learning rate of fresh words, and the part of it from which it falls all the time where they are taught further."""


@dataclass(frozen=True)
class Size:
    """How much the language stage reads at once: lessons a batch, batches a page; lessons for the tokenizer, crowds for the
    parts of what the tower sees.
    """

    batch: int = 16
    page: int = 6
    texts: int = 4_000
    crowds: int = 80


def learn_words(films: Films, folder: Path, seed: int, lessons: int) -> PreTrainedTokenizerBase:
    """The tokenizer in `folder`, learnt from the text of `lessons` lessons if it is not there yet."""
    if (folder / "tokenizer.json").exists():
        return AutoTokenizer.from_pretrained(folder)
    return train_tokenizer(texts(films, seed, lessons), folder, VOCABULARY)


def build(tokenizer: PreTrainedTokenizerBase, eyes: DPTModel | None) -> LlavaForConditionalGeneration:
    """The embedded model with fresh words: hybrid ViT of width 256, Llama 320 x 6, under 20 M parameters."""
    rows = -(-len(tokenizer) // 64) * 64
    text = LlamaConfig(
        vocab_size=rows, hidden_size=320, intermediate_size=896, num_hidden_layers=6, num_attention_heads=5,
        num_key_value_heads=5, max_position_embeddings=CONTEXT_TOKENS, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=tower.vision_config(), text_config=text, image_token_index=tokenizer.get_vocab()["<image>"],
        image_seq_length=canvas.GRID**2, vision_feature_layer=-1, vision_feature_select_strategy="default",
    )  # fmt: skip
    model = LlavaForConditionalGeneration(config)
    if eyes is not None:
        see_with(model, eyes)
    return model


def see_with(model: LlavaForConditionalGeneration, eyes: DPTModel) -> None:
    """Put these weights into the model's vision tower."""
    missing, extra = model.model.vision_tower.load_state_dict(eyes.state_dict(), strict=False)
    assert not extra and all(name.startswith("pooler.") for name in missing), (missing, extra)


def optimizers(model: LlavaForConditionalGeneration, rate: float, tower_rate: float) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the matrices of the language layers, AdamW for all else that is trained."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}

    def taking(*parts: str) -> list[nn.Parameter]:
        return [named.pop(name) for name in list(named) if all(part in name for part in parts)]

    eyes, projector, layers = taking("vision_tower"), taking("projector"), taking(".layers.", "proj.weight")
    groups: list[dict[str, Any]] = [
        {"params": list(named.values()), "lr": rate},
        {"params": projector, "lr": PROJECTOR_RATE * rate},
        *([{"params": eyes, "lr": tower_rate}] if eyes else []),
    ]
    return [
        torch.optim.Muon(layers, lr=2.5 * rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(groups, weight_decay=0.01, betas=(0.9, 0.95)),
    ]


def rate_at(step: int, steps: int, decay: float = DECAY) -> float:
    """The part of the learning rate that counts at this step; the end may be moved while the training is resumed."""
    return min(1.0, (step + 1) / (WARM_UP * steps), max(0.0, (steps - step) / (decay * steps)))


def to_films(films: list[Film], classifier: Classifier | None = None) -> Films:
    """Films for lessons; what `classifier` says of those outside its training part comes along."""
    new = [f for f in films if f.split != "train"]
    said: dict[Path, float] = {}
    if classifier and new:
        each = classifier.calibration.probabilities(predict(classifier, new, True))[:, classifier.labels.index(POSITIVE)]
        said = {film.path: float(chance) for film, chance in zip(new, each, strict=True)}
    chances = torch.tensor([said.get(f.path, math.nan) for f in films])
    return Films(load_pixels(films), torch.tensor([f.label for f in films], dtype=torch.long), chances)


def split_for_words(films: list[Film]) -> tuple[list[Film], list[Film]]:
    """The films to learn words with, and those to validate by: of the validation part, from which the eyes have not learnt,
    every sixth patient's. The last part is in neither.
    """
    patients = sorted({f.patient for f in films if f.split == "val"})
    kept = set(patients[::6])
    return [f for f in films if f.split != "test" and f.patient not in kept], [f for f in films if f.patient in kept]


def begin_with(
    begin: Tower | Path, films: Films, out: Path, seed: int, lessons: int
) -> tuple[LlavaForConditionalGeneration, PreTrainedTokenizerBase]:
    """The model in a folder with its tokenizer; or one with fresh words on a tower, and a tokenizer learnt from `lessons`."""
    if isinstance(begin, Path):
        model = LlavaForConditionalGeneration.from_pretrained(begin, dtype=torch.float32)
        return model.eval(), AutoTokenizer.from_pretrained(begin)
    tokenizer = learn_words(films, out / "tokenizer", seed, lessons)
    return build(tokenizer, begin.vision).eval(), tokenizer


def read_page(
    model: LlavaForConditionalGeneration,
    batches: Sequence[dict[str, torch.Tensor]],
    cost: Callable[[LlavaForConditionalGeneration, dict[str, torch.Tensor]], torch.Tensor],
    movers: Sequence[torch.optim.Optimizer | LambdaLR],
) -> float:
    """One step of the `movers` for each batch of a page; the mean of what they cost."""
    losses = []
    model.train()
    model.model.vision_tower.eval()  # its batch normalisation keeps what it has learnt
    for batch in batches:
        loss = cost(model, batch)
        model.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for mover in movers:
            mover.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


def train_language(
    films: list[Film],
    begin: Tower | Path,
    out: Path,
    pages: int,
    seed: int,
    tower_rate: float = 0.0,
    size: Size = Size(),
    classifier: Classifier | None = None,
) -> tuple[LlavaForConditionalGeneration, PreTrainedTokenizerBase]:
    """Train projector and language tower for `pages` of lessons; `tower_rate` above 0 also moves the vision tower.

    It begins with a trained tower, which gets fresh words, or with the folder of a trained model, which is taught further.
    The hints of some lessons are what `classifier` said of films that it has not learnt from; else they are drawn.
    """
    torch.manual_seed(seed)
    taught, kept = split_for_words(films)
    pictures = to_films(taught, classifier)
    eyes = begin if isinstance(begin, Tower) else None
    model, tokenizer = begin_with(begin, pictures, out, seed, size.texts)
    model.model.vision_tower.to(memory_format=torch.channels_last).requires_grad_(tower_rate > 0)
    image_id = model.config.image_token_index
    unseen = Book(to_films(kept), tokenizer, image_id, seed + 1, size.batch, size.page)[UNSEEN_PAGE]
    if eyes:
        bridge.connect(model, tokenizer, eyes, unseen[0]["pixel_values"])
    weight, parts = weigh(tokenizer), find_parts(model.model.vision_tower, seed, size.crowds)
    pair = optimizers(model, RATE if eyes else AGAIN * RATE, tower_rate)
    falling = partial(rate_at, steps=pages * size.page, decay=DECAY if eyes else 1.0)
    schedules = [LambdaLR(one, falling) for one in pair]
    progress = Progress(out / "language.pt", model, *pair, *schedules)
    first = progress.restore()
    if eyes and not tower_rate:
        see_with(model, eyes.vision)  # a state that was saved with other eyes must not bring them back
    book = Book(pictures, tokenizer, image_id, seed, size.batch, size.page, PRIMER_PAGES if eyes else 0)
    started = time.perf_counter()
    for page, batches in enumerate(DataLoader(book, batch_size=None, sampler=range(first, pages), num_workers=1), first + 1):
        loss = read_page(model, batches, partial(loss_of, weight=weight, parts=parts), (*pair, *schedules))
        if page % 5 == 0:
            pace = (time.perf_counter() - started) / (page - first)
            log.info("language page %d/%d loss %.4f (%.2f s a page)", page, pages, loss, pace)
        if page % 50 == 0 or page == pages:
            log.info("language page %d validation loss %.4f, claims right %.3f", page, *validate(model, unseen, weight, parts))
            progress.save(page)
    return model.eval(), tokenizer


def export(model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write the checkpoint as Hilum loads it: bf16 safetensors, tokenizer, image processor, `hilum.json`."""
    model.bfloat16().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    side = {"height": canvas.SIDE, "width": canvas.SIDE}
    LlavaImageProcessorPil(size=side, crop_size=side, do_pad=True, do_center_crop=False).save_pretrained(folder)
    card = {"name": "hilum-tiny", "max_images": MOST_IMAGES, "context_tokens": CONTEXT_TOKENS}
    (folder / "hilum.json").write_text(json.dumps(card, indent=2) + "\n")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("train", "samples"), default="train", help="train, or show the lessons")
    parser.add_argument(
        "--data", type=Path, help="folder with NORMAL/ and PNEUMONIA/; without it there are drawn pictures alone"
    )
    parser.add_argument("--start", type=Path, metavar="MODEL", help="folder of a trained model to teach further")
    parser.add_argument("--out", type=Path, default=Path("runs/tiny"), help="training states and tokenizer")
    parser.add_argument("--export", type=Path, default=Path("models/hilum-tiny"))
    parser.add_argument("--teacher-epochs", type=int, default=9)
    parser.add_argument("--tower-steps", type=int, default=1100)
    parser.add_argument("--pages", type=int, default=900, help="of the language stage")
    parser.add_argument("--tower-rate", type=float, default=0.0, help="learning rate of the vision tower in the last stage")
    parser.add_argument("--classifier", type=Path, default=SHIPPED, help="whose word on films that are new to it is a hint")
    parser.add_argument("--count", type=int, default=2000, help="samples: lessons to count")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(args.threads)
    try:
        if args.start and not (args.start / "config.json").is_file():
            raise CheckpointError(f"{args.start} holds no model. Give --start the folder of one, such as models/hilum-tiny.")
        films = find_films(args.data) if args.data else []
        classifier = load_classifier(args.classifier) if films else None
    except (RecordError, CheckpointError) as error:
        print(f"hilum: {error}", file=sys.stderr)
        return 2
    if args.what == "samples":
        print(describe(to_films([f for f in films if f.split != "test"], classifier), args.count, args.seed))
        return 0
    if not films:
        log.warning("No films were given (--data), so this model learns from drawn pictures alone and knows no real film.")
    args.out.mkdir(parents=True, exist_ok=True)
    begin: Tower | Path = args.start
    if not args.start:
        guide = teacher.train(films, args.out, args.teacher_epochs, args.seed) if films else None
        begin = tower.train(films, guide, args.out, args.tower_steps, args.seed)
    model, tokenizer = train_language(films, begin, args.out, args.pages, args.seed, args.tower_rate, classifier=classifier)
    export(model, tokenizer, args.export)
    return 0


if __name__ == "__main__":
    sys.exit(main())
