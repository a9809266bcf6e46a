"""How the embedded model talks: follow-ups, references, blank pictures, and what lies outside its reach.

Part of `python -m benchmarks.embedded`. Pictures come from seeds that no training uses.
"""

import numpy as np
from PIL import Image

from benchmarks.examination import Examination, Reply, share
from chat.conversation import Turn
from chat.prompt import layout_search
from chat.wording import LANGUAGES, search_prompt
from finetune import ask_films, ask_other, ask_scenes
from finetune.oddities import draw_oddity
from finetune.phantom import draw_phantom
from finetune.references import draw_search
from finetune.scenes import draw_scene

SEED = 91_000
OUTSIDE = ("treat", "diagnose")
"""Questions about a film that Hilum leaves to a doctor."""
PLAIN = ((110, 110, 110), (0, 0, 0), (255, 255, 255), (122, 116, 104))


def measure_follow_ups(exam: Examination, count: int) -> dict[str, float]:
    """Accuracy of questions about scenes that need the turn before them, which the model has answered itself."""
    replies: list[Reply] = []
    number = 0
    while len(replies) < count:
        number += 1
        rng, language = np.random.default_rng([SEED, 1, number]), LANGUAGES[number % 2]
        scene = draw_scene(rng)
        first, second = ask_scenes.ask_about_scene(scene, rng, language, 2)
        if not second.kind.startswith("follow_") or second.kind == "follow_sure":
            continue
        before = [Turn(first.question, exam.answer(scene.image, first.question, language))]
        replies.append(exam.ask(scene.image, second, language, ask_scenes.claim_of, before))
    kinds = sorted({reply.exchange.kind for reply in replies})
    each = {kind: share(r.right for r in replies if r.exchange.kind == kind) for kind in kinds}
    return {"all": share(reply.right for reply in replies), **each}


def measure_references(exam: Examination, count: int, figures: float = 0.0) -> dict[str, float]:
    """ "Is it here?" with a reference turned, rescaled, shaded and partly covered; present and absent count alike.

    `figures` is the share of composed figures in other colours; the others are the plain shapes of a scene.
    """
    yes: dict[bool, list[bool]] = {True: [], False: []}
    number = 0
    while min(len(said) for said in yes.values()) < count // 2:
        number += 1
        rng, language = np.random.default_rng([SEED, 2, number]), LANGUAGES[number % 2]
        drawn = draw_search(rng, figures)
        if drawn is None or len(yes[bool(drawn.found)]) >= count // 2:
            continue
        said = exam.read(layout_search(drawn.shown, drawn.crop, search_prompt(language)))
        yes[bool(drawn.found)].append(ask_films.claim_of(said, "pneumonia", language) == "yes")
    present, absent = share(yes[True]), share(not said for said in yes[False])
    return {"present": present, "absent": absent, "balanced_accuracy": round((present + absent) / 2, 4)}


def measure_reach(exam: Examination, count: int) -> dict[str, float]:
    """How often the model says that it cannot tell: where it cannot, and where it can (false refusals, so far asked)."""
    false = [
        ask_other.claim_of(r.answer, ask_other.ODDITY, r.language) == "cannot" and not r.right
        for r in exam.replies
        if r.exchange.kind not in OUTSIDE
    ]
    images, questions = [], []
    for number in range(count):
        rng, language = np.random.default_rng([SEED, 3, number]), LANGUAGES[number % 2]
        exchange = ask_other.ask_about_oddity(rng, language, 1)[0]
        images.append(exam.ask(draw_oddity(rng), exchange, language, ask_other.claim_of).right)
        asked = ask_films.ask_film_kind(0, OUTSIDE[number // 2 % 2], None, rng, language)
        film = draw_phantom(rng).image
        questions.append(exam.ask(film, asked, language, ask_films.claim_of).right)
    return {"images_declined": share(images), "questions_declined": share(questions), "false_refusals": share(false)}


def measure_blank(exam: Examination, count: int) -> dict[str, float]:
    """ "Is there pneumonia?" about a plain picture: what is told blindly, which a film should have told.

    `yes` and `no` of those that are claimed at all; a model that guessed from the words would claim one of them.
    """
    said = []
    for number in range(count):
        rng, language = np.random.default_rng([SEED, 4, number]), LANGUAGES[number % 2]
        question = ask_films.ask_film_kind(0, "pneumonia", None, rng, language).question
        text = exam.answer(Image.new("RGB", (336, 336), PLAIN[number % len(PLAIN)]), question, language)
        said.append(ask_films.claim_of(text, "pneumonia", language))
    return {"yes": share(claim == "yes" for claim in said), "no": share(claim == "no" for claim in said)}
