"""Panels: a desk as the values that the page draws, in the desk's language.

Knows desks, words and thumbnails. Does not know components or events; what is text is escaped here or set as text there.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from chat.assistant import Answer
from chat.engine.address import Address
from chat.ui.desk import Aside, Desk, Exchange
from chat.ui.gallery import QUESTIONS
from chat.ui.lens_panel import views as views
from chat.ui.words import explain, word, words
from chat.wording import Language
from chat.writer import for_writer

if TYPE_CHECKING:
    from chat.engine.devices import Fit

Value = dict[str, Any]


@dataclass(frozen=True)
class About:
    """The model that answers, as it was resolved on this machine, or the address to which pictures and text go.

    `writer` is the name of a second model that writes, `writer_address` the one to which text alone goes; `base` is what
    `name` is an adapter of, where it is one; `fit` is why it is in 16 bits or in 4, where memory decided it.
    """

    name: str
    device: str
    weights: str
    is_embedded: bool
    context_tokens: int
    address: Address | None = None
    writer: str = ""
    writer_address: Address | None = None
    base: str = ""
    fit: "Fit | None" = None

    @property
    def names(self) -> str:
        return " + ".join(filter(None, (self.base, self.name, self.writer)))

    def answering(self, is_adapted: bool) -> str:
        """Which of a pair answers."""
        return self.name if is_adapted else self.base

    def notice(self, language: Language) -> list[str]:
        """What a person should know about it, and how to get another; then the same of the writer."""
        of_writer = ("writer_here", "writer_beside", "writer_remote", "writer_unencrypted")
        second = _where(self.writer, self.writer_address, of_writer, language) if self.writer else []
        if self.is_embedded:
            return [word("about_embedded", language), word("about_other", language), *second]
        of_model = ("about_model", "about_beside", "about_remote", "about_unencrypted")
        return [*_where(self.name, self.address, of_model, language), *second]


def _where(name: str, address: Address | None, words: tuple[str, str, str, str], language: Language) -> list[str]:
    """Where a model runs, in the words for: in this process, beside it, elsewhere, and over a bare line."""
    here, beside, away, bare = words
    if address is None:
        return [word(here, language, name=name)]
    said = [word(beside if address.is_local else away, language, name=name, host=address.host)]
    return said if address.is_local or address.is_encrypted else [*said, word(bare, language)]


def bar(desk: Desk, model: About) -> Value:
    """The top of the page."""
    return {
        "words": words(desk.language),
        "language": desk.language,
        "is_open": desk.is_open,
        "model": model.names,
        "device": " · ".join(filter(None, (model.device, model.weights))),
    }


def talk(desk: Desk, model: About) -> Value:
    """The conversation, the question under way, and what the model remembers.

    `drawn` grows with the desk's state, so that a page can tell which of two drawings is the newer one.
    """
    with desk.lock:
        return _talk(desk, model) | {"drawn": time.time_ns() // 1000}


def _talk(desk: Desk, model: About) -> Value:
    language, seen = desk.language, desk.remembered
    kept = min(seen, desk.conversation.limit)
    last, total = desk.last, len(desk.exchanges)
    used = last.prompt.tokens + (0 if last.brief else last.tokens) if last else 0
    return {
        "words": words(language),
        "items": [
            _item(e, total - place <= seen, language, model) | _beside(desk, e, place == total - 1, model)
            for place, e in enumerate(desk.exchanges)
        ],
        "is_busy": desk.is_answering,
        "has_image": desk.study is not None,
        "trouble": explain(desk.trouble, language) if desk.trouble else "",
        "draft": [desk.drafts, desk.draft],
        "notice": " ".join(model.notice(language)) if model.is_embedded or model.address or model.writer else "",
        "suggestions": list((desk.shown.questions or QUESTIONS)[language]),
        "kept": kept,
        "limit": desk.conversation.limit,
        "remembers": word("remembers", language, kept=kept, limit=desk.conversation.limit),
        "token_use": word("token_use", language, used=used, limit=model.context_tokens),
        "region": desk.region.corners if desk.region else [],
        "pinned": desk.pinned,
        "voices": [model.base, model.name] if model.base else [],
        "is_adapted": desk.is_adapted,
    }


def _item(exchange: Exchange, is_remembered: bool, language: Language, model: About) -> Value:
    answer, is_busy = exchange.answer, exchange.state in ("waiting", "answering")
    facts = [model.answering(exchange.is_adapted)] if model.base else []
    if answer and exchange.state != "waiting":
        facts.append(word("first_token", language, seconds=f"{answer.first_token_seconds:.2f}"))
        if answer.tokens_per_second:
            facts.append(word("speed", language, speed=f"{answer.tokens_per_second:.1f}"))
        facts.append(word("tokens", language, tokens=answer.tokens))
    return {
        "number": exchange.number,
        "question": exchange.question,
        "answer": answer.text if answer and (answer.is_written or not is_busy) else "",
        "observations": (answer.observations or "") if answer else "",
        "trouble": _trouble(answer, language) if answer else "",
        "doing": _doing(exchange, language),
        "state": exchange.state,
        "is_remembered": is_remembered,
        "facts": facts,
    }


def _beside(desk: Desk, exchange: Exchange, is_last: bool, model: About) -> Value:
    """The same question without the evidence, or of the other model: whether it can be asked, or what came of it."""
    aside, sampling = exchange.aside, exchange.request.sampling if exchange.request else None
    is_free = is_last and not desk.is_answering
    can = {
        "can_compare": is_free and desk.can_compare(exchange),
        "can_pair": is_free and bool(model.base) and desk.can_compare(exchange, "model"),
    }
    if aside is None:
        return can | {"aside": None}
    by_chance = bool(sampling and sampling.temperature and sampling.seed is None)
    titles = [word(key, desk.language) for key in ("with_evidence", "without_evidence")]
    if aside.less == "model":
        titles = [model.answering(is_adapted) for is_adapted in (exchange.is_adapted, not exchange.is_adapted)]
    told = {
        "titles": titles,
        "answer": aside.answer.text if aside.answer else "",
        "doing": _doing(aside, desk.language),
        "state": aside.state,
        "note": " ".join(word(key, desk.language) for key in ["aside_note", *["aside_chance"] * by_chance]),
    }
    return can | {"aside": told}


def _trouble(answer: Answer, language: Language) -> str:
    """Why the writer's answer is not there, or not whole."""
    if answer.trouble is None:
        return ""
    kind = "writer_broke_off" if answer.is_written else "writer_failed"
    return word(kind, language, why=for_writer(explain(answer.trouble, language)))


def _doing(exchange: Exchange | Aside, language: Language) -> str:
    """What stands in for an answer that has not begun."""
    if exchange.state == "waiting":
        return word("queued", language)
    if exchange.looking and exchange.looking.ahead:
        return word("in_line", language, ahead=exchange.looking.ahead)
    if exchange.looking and exchange.looking.crops:
        return word("looking", language, crop=exchange.looking.crop, crops=exchange.looking.crops)
    return word("writing" if exchange.answer and exchange.answer.brief else "thinking", language)


def window(desk: Desk, model: About) -> str:
    """Which turns the model still sees, the newest first, and how much of its context the last question took."""
    language, last = desk.language, desk.last
    if last is None:
        return _quiet(word("window_none", language, limit=desk.conversation.limit))
    gone = len(desk.exchanges) - desk.remembered
    rows = "".join(
        f'<li data-in="{str(place >= gone).lower()}"><b>{exchange.number}</b><span>{escape(exchange.question)}</span>'
        f"<em>{escape(word('window_in' if place >= gone else 'window_left', language))}</em></li>"
        for place, exchange in reversed(list(enumerate(desk.exchanges)))
    )
    used = last.prompt.tokens
    share = min(100.0, 100 * used / model.context_tokens)
    note = escape(word("window_note", language, used=used, limit=model.context_tokens))
    meter = f'<div class="meter"><i style="width:{share:.1f}%"></i></div>'
    return f'<ol class="turns">{rows}</ol>{meter}<p class="quiet">{note}</p>'


def prompt(desk: Desk) -> str:
    """The text that the model was sent, with the hash of text and pixels."""
    last = desk.last
    if last is None:
        return _quiet(word("prompt_none", desk.language))
    label = escape(word("prompt_hash", desk.language))
    digest = f'<p class="hash"><b>{label}</b> <code>{last.prompt_hash}</code></p>'
    shown = f'<pre class="prompt">{escape(last.prompt_text)}</pre>{digest}'
    aside = desk.exchanges[-1].aside if desk.exchanges else None
    if aside and aside.answer and aside.less == "evidence":  # the other of a pair is sent the very same
        title = escape(word("without_evidence", desk.language))
        shown += f'<p><b>{title}</b></p><pre class="prompt">{escape(aside.answer.prompt_text)}</pre>'
    if last.brief:
        sent = "\n\n".join(f"{message.role}: {''.join(map(str, message.parts))}" for message in last.brief.messages)
        shown += f'<p><b>{escape(word("writer_prompt", desk.language))}</b></p><pre class="prompt">{escape(sent)}</pre>'
    return shown


def about(desk: Desk, model: About) -> str:
    """Which model answers, and how to get the other."""
    language = desk.language
    facts: Mapping[str, str] = {"model": model.name, "device": model.device, "precision": model.weights}
    if model.address:
        facts = {"model": model.name, "address": model.address.url}
    if model.writer:
        where = [model.writer_address.url] if model.writer_address else []
        facts = {**facts, "writer": " · ".join([model.writer, *where])}
    if fit := model.fit:
        gigabytes = {"needed": f"{fit.needed / 1e9:.1f}", "free": f"{fit.free / 1e9:.1f}"}
        facts = {**facts, "memory": word("memory_four" if fit.four_bit else "memory_sixteen", language, **gigabytes)}
    rows = "".join(f"<dt>{escape(word(key, language))}</dt><dd>{escape(value)}</dd>" for key, value in facts.items())
    return "".join(f"<p>{escape(line)}</p>" for line in model.notice(language)) + f'<dl class="facts">{rows}</dl>'


def foot(language: Language, model: About) -> str:
    """The line that always stands below: what Hilum promises, and where pictures and words go."""
    kinds = (("kept", "kept_writer"), ("kept_remote", "kept_both"))
    kind = kinds[model.address is not None][model.writer_address is not None]
    hosts = {"host": model.address, "writer": model.writer_address}
    kept = word(kind, language, **{name: address.host for name, address in hosts.items() if address})
    return f'<p class="foot"><b>{escape(word("promise", language))}</b> {escape(kept)}</p>'


def _quiet(text: str) -> str:
    return f'<p class="quiet">{escape(text)}</p>'
