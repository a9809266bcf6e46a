"""Records: one conversation to teach, and the rows of the formats that hold it.

Knows formats. Does not know files, images or models. See `record_files` for the schema in words.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from finetune.records import RecordError, split_of

IMAGE_MARK = "<image>"
_EXTRAS = ("patient", "kind", "language", "source")
_SIDES = {"human": 0, "user": 0, "gpt": 1, "assistant": 1}


@dataclass(frozen=True)
class Exchange:
    """A question and its answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class Record:
    """A conversation to teach, about an image, about a text, or about neither."""

    id: str
    patient: str
    turns: tuple[Exchange, ...]
    image: str | None = None
    context: str = ""
    kind: str = ""
    language: str = ""
    source: str = ""

    @property
    def split(self) -> str:
        return split_of(self.patient)


def read_row(row: dict[str, Any], where: str) -> Record:
    if "turns" in row:
        turns, image, context = _own_turns(row, where), _text(row, "image", where), _text(row, "context", where) or ""
    elif "conversations" in row or "messages" in row:
        turns, image, context = _conversation(row, where)
    elif "instruction" in row:
        context = _text(row, "input", where) or ""
        question = (_text(row, "instruction", where) or "").replace(IMAGE_MARK, "").strip()
        turns, image = (_exchange(question, _text(row, "output", where), where, ("instruction", "output")),), _image(row, where)
    else:
        raise RecordError(f"{where}: none of the fields turns, conversations, messages, instruction is there. Add one.")
    name = row["id"] if isinstance(row.get("id"), int) else _text(row, "id", where)
    if not name and name != 0:
        if "turns" in row:
            raise RecordError(f"{where}, field id: it is missing. Give each record its own.")
        name = where.rpartition(" ")[2]
    patient = row["patient"] if isinstance(row.get("patient"), int) else _text(row, "patient", where)
    rest = {field: _text(row, field, where) or "" for field in ("kind", "language", "source")}
    return Record(str(name), str(patient or name), turns, image, context, **rest)


def _text(row: dict[str, Any], field: str, where: str) -> str | None:
    value = row.get(field)
    if value is not None and not isinstance(value, str):
        raise RecordError(f"{where}, field {field}: it must be text, not {type(value).__name__}. Mend it.")
    return value or None


def _exchange(question: object, answer: object, where: str, fields: tuple[str, str]) -> Exchange:
    for field, said in zip(fields, (question, answer), strict=True):
        if not isinstance(said, str) or not said.strip():
            raise RecordError(f"{where}, field {field}: it is empty or no text. Fill it in, or remove the record.")
    return Exchange(str(question), str(answer))


def _own_turns(row: dict[str, Any], where: str) -> tuple[Exchange, ...]:
    turns = row["turns"]
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, dict) for turn in turns):
        raise RecordError(f"{where}, field turns: it must be a list of questions and answers, at least one. Mend it.")
    named = [(f"turns[{i}].question", f"turns[{i}].answer") for i in range(len(turns))]
    return tuple(_exchange(t.get("question"), t.get("answer"), where, names) for t, names in zip(turns, named, strict=True))


def _image(row: dict[str, Any], where: str) -> str | None:
    """The one image, under `image` or in the list `images`."""
    images = row.get("images")
    if images is None or images == []:
        return _text(row, "image", where)
    if not isinstance(images, list) or len(images) != 1 or not isinstance(images[0], str):
        raise RecordError(f"{where}, field images: a record holds one image's path at most. Split or mend it.")
    return str(images[0])


def _conversation(row: dict[str, Any], where: str) -> tuple[tuple[Exchange, ...], str | None, str]:
    field = "conversations" if "conversations" in row else "messages"
    said = row[field]
    if not isinstance(said, list) or not all(isinstance(part, dict) for part in said):
        raise RecordError(f"{where}, field {field}: it must be a list of messages. Mend it.")
    parts = [(part.get("from", part.get("role")), part.get("value", part.get("content"))) for part in said]
    if parts and parts[0][0] == "system":
        parts = parts[1:]  # every model is given its own
    if not parts or len(parts) % 2 or any(_SIDES.get(str(side)) != i % 2 for i, (side, _) in enumerate(parts)):
        raise RecordError(f"{where}, field {field}: person and model must take turns, the person first. Mend it.")
    turns = []
    for i in range(0, len(parts), 2):
        question = parts[i][1].replace(IMAGE_MARK, "").strip("\n ") if isinstance(parts[i][1], str) else parts[i][1]
        turns.append(_exchange(question, parts[i + 1][1], where, (f"{field}[{i}]", f"{field}[{i + 1}]")))
    context = _text(row, "context", where) or ""
    if context and turns[0].question.startswith(f"{context}\n\n"):
        turns[0] = replace(turns[0], question=turns[0].question[len(context) + 2 :])
    return tuple(turns), _image(row, where), context


def _said(record: Record) -> list[tuple[str, str]]:
    """The turns as other formats hold them: the image's mark and the context in front of the first question."""
    head = (f"{IMAGE_MARK}\n" if record.image else "") + (f"{record.context}\n\n" if record.context else "")
    return [((head if i == 0 else "") + turn.question, turn.answer) for i, turn in enumerate(record.turns)]


def _as_llava(record: Record) -> dict[str, Any]:
    said = [{"from": side, "value": text} for pair in _said(record) for side, text in zip(("human", "gpt"), pair, strict=True)]
    image = {"image": record.image} if record.image else {}
    context = {"context": record.context} if record.context else {}
    return {"id": record.id, **image, **context, "conversations": said}


def _as_sharegpt(record: Record) -> dict[str, Any]:
    row = _as_llava(record)
    image = row.pop("image", None)
    return row | ({"images": [image]} if image else {})


def _as_alpaca(record: Record) -> dict[str, Any]:
    if len(record.turns) != 1:
        raise RecordError(
            f"Record {record.id[:80]!r} has {len(record.turns)} turns, and alpaca holds one. Choose llava or sharegpt."
        )
    row = {"id": record.id, "instruction": record.turns[0].question, "input": record.context, "output": record.turns[0].answer}
    return row | ({"image": record.image} if record.image else {})


FORMS: dict[str, Callable[[Record], dict[str, Any]]] = {
    "records": asdict,
    "llava": _as_llava,
    "sharegpt": _as_sharegpt,
    "alpaca": _as_alpaca,
}


def as_row(record: Record, form: str) -> dict[str, Any]:
    """A record as a row of one of FORMS. Raises RecordError where the form cannot hold it."""
    return FORMS[form](record) | {name: value for name in _EXTRAS if form != "records" and (value := getattr(record, name))}
