"""Asked: what a question on the page is asked with, from the controls and the desk, and what an aside is asked with.

Knows desks and requests. Does not know components, events or how an answer is drawn.
"""

from dataclasses import replace
from secrets import randbelow

from chat.assistant import Assistant, Request, RequestError
from chat.engine.base import Sampling
from chat.pair import Paired
from chat.ui.desk import Desk, Exchange
from chat.wording import language_of, with_report


def request_of(desk: Desk, question: str, spoken: str, sampling: Sampling, crops: bool, system: str) -> Request:
    """A question with all that the desk lets through, in the language of what was `spoken`."""
    regions, language = (desk.region,) if desk.region else (), language_of(spoken, desk.language)
    system = with_report(system, desk.pinned) if desk.pinned else system
    return Request(question, sampling, language, desk.told, desk.tells_overlay, crops, regions, system)


def aside_of(exchange: Exchange, request: Request) -> tuple[Exchange, Request]:
    """The exchange once more without what its aside does without: by the other of a pair, or without the evidence."""
    if exchange.aside and exchange.aside.less == "model":
        return replace(exchange, is_adapted=not exchange.is_adapted), request
    return exchange, replace(request, evidence=frozenset(), overlay=False)


def seeded(sampling: Sampling, assistant: Assistant) -> Sampling:
    """With a seed where a pair answers, so that the other can be asked with the same."""
    is_open = sampling.seed is None and isinstance(assistant, Paired)
    return replace(sampling, seed=randbelow(2**31)) if is_open else sampling


def to_sampling(temperature: float, top_p: float, most: float, seed: str) -> Sampling:
    """What the sliders say. Raises RequestError for what is no seed."""
    return Sampling(int(most), float(temperature), float(top_p), _seed(seed))


def _seed(text: str) -> int | None:
    """None for an empty field. Raises RequestError for what is no seed."""
    try:
        seed = int(text) if text.strip() else None
    except ValueError:
        seed = -1
    if seed is not None and not 0 <= seed < 2**63:
        raise RequestError("bad_seed", "The seed must be a whole number from 0, or empty.")
    return seed
