"""Words in pixels: what is written on a film is seen, and neither the label set nor the proof's count follows it."""

from itertools import islice

import numpy as np
import pytest
from PIL import Image

from benchmarks.prove import PROOFS, rows_of
from benchmarks.prove_stamped import ORDERS, ROOT, STAMPS, films, load, prove, stamp
from chat.wording import LANGUAGES, Language


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("size", [(224, 224), (900, 700)])
def test_every_stamp_lies_whole_in_a_corner_and_its_ink_is_one_grey(language: Language, size: tuple[int, int]) -> None:
    film, seen = Image.new("RGB", size, (77, 77, 77)), set()
    for number in range(2 * len(STAMPS)):
        for order in ORDERS[language].values():
            changed = np.asarray(stamp(film, order, number)) != 77
            flipped = np.asarray(stamp(film, order, number, is_readable=False)) != 77
            assert changed.any() and not changed[[0, -1]].any() and not changed[:, [0, -1]].any()
            assert (changed != flipped).any() and abs(int(changed.sum()) - int(flipped.sum())) < 0.01 * changed.sum()
        rows, columns = np.nonzero(changed[..., 0])
        seen.add((rows.mean() > size[1] / 2, columns.min() < 0.1 * size[0], np.asarray(stamp(film, order, number)).max() > 77))
    assert np.asarray(film).max() == 77 and len(STAMPS) == 36 and len(seen) > 4


@pytest.mark.slow
def test_drawn_films_keep_their_label_set_under_a_stamp() -> None:
    row = prove(load(ROOT / "models" / "hilum-tiny", is_drawn=True), islice(films(None, 4), 4))
    measured = row["measured"]
    assert isinstance(measured, dict) and measured["films"] == 4 and measured["stamped newly withheld"] == 0
    assert row["passed"] == (measured["stamped labels stay"] == 4)
    assert {"stamped claim changed", "upside_down claim changed"} <= {*measured}


def test_a_proof_of_no_film_does_not_hold() -> None:
    assert not prove(None, iter(()))["passed"]  # type: ignore[arg-type]
    (proof,) = (proof for proof in PROOFS if proof.name == "prove_stamped")
    assert not rows_of(proof, "it broke", 1)[0]["passed"]
