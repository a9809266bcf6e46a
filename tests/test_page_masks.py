"""The lungs' contour on the page, in a real browser with a real U-Net: there by default, put away by hand, or said why not."""

import base64
import io
from collections.abc import Iterator

import numpy as np
import pytest
import tiny
from browsing import Opened, drop
from PIL import Image
from playwright.sync_api import Page, expect
from served import Served, serve

from chat.ui.desk import Desk
from chat.ui.evidence_panel import masks_value
from chat.ui.pictures import LAYER_SIDE, outline_of
from vision.evidence import Evidence, Mask, Region
from vision.examiner import load_examiner
from vision.overlay import colour_of

pytest_plugins = ("browsing",)

FILM, OTHER = tiny.film(), tiny.film((0.7, 0.4))


def png(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    classifier = tiny.build_classifier(tmp_path_factory.mktemp("classifier"))
    segmenter = tiny.build_segmenter(tmp_path_factory.mktemp("segmenter"), FILM)
    examiner = load_examiner(classifier, segmenter=segmenter)
    examiner.warm_up()
    with serve(tmp_path_factory.mktemp("page"), examiner=examiner) as running:
        yield running


def masked(mask: Mask, share: float = 0.2, **more: object) -> Region:
    return Region(mask, share, 1, **more)  # type: ignore[arg-type]


def value_of(evidence: Evidence, language: str = "en") -> dict[str, object] | None:
    desk = Desk(5, language)  # type: ignore[arg-type]
    desk.evidence = evidence
    return masks_value(desk)


@pytest.mark.browser
@pytest.mark.parametrize(("locale", "width", "name"), [("en-US", 1200, "Lungs' contour"), ("ko-KR", 390, "폐 윤곽")])
def test_the_contour_is_there_with_the_film_and_a_key_puts_it_away(
    open_page: Opened, locale: str, width: int, name: str
) -> None:
    page: Page = open_page(locale, width)
    drop(page, png(FILM))
    expect(page.locator(".outline")).to_be_visible()
    switch = page.get_by_role("switch", name=name)
    expect(switch).to_have_attribute("aria-checked", "true")
    expect(page.locator(".legend li")).to_have_count(2)
    assert "%" in page.locator(".legend li").first.inner_text()
    frames = page.locator(".canvas > img:first-child, .outline").evaluate_all(
        "(nodes) => nodes.map((node) => JSON.stringify(node.getBoundingClientRect()))"
    )
    assert len(frames) == 2 and frames[0] == frames[1]
    switch.focus()
    page.keyboard.press("Space")
    expect(switch).to_have_attribute("aria-checked", "false")
    expect(page.locator(".outline")).to_be_hidden()
    expect(page.locator(".heat")).to_be_visible()
    drop(page, png(OTHER))  # what was put away stays away on the next film
    expect(page.locator(".size")).to_contain_text("300")
    expect(page.locator(".outline")).to_be_hidden()
    drop(page, png(tiny.picture(3)))
    expect(page.locator(".masks")).to_be_hidden()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("size", [(300, 240), (1500, 900), (40, 60)])
def test_the_outline_runs_along_each_masks_rim_in_its_colour_and_leaves_the_film_free(size: tuple[int, int]) -> None:
    halves = [np.zeros(size[::-1], bool) for _ in range(2)]
    width, height = size
    halves[0][height // 5 : 4 * height // 5, width // 10 : 4 * width // 10] = True
    halves[1][height // 5 : 4 * height // 5, 6 * width // 10 : 9 * width // 10] = True
    masks = [Mask("right lung", halves[0]), Mask("left lung", halves[1])]
    layer = np.asarray(Image.open(io.BytesIO(base64.b64decode(outline_of(masks, size).partition(",")[2]))))
    assert max(layer.shape[:2]) == LAYER_SIDE and layer.shape[2] == 4 and set(np.unique(layer[..., 3])) == {0, 255}
    assert (layer[..., 3] > 0).mean() < 0.05
    for number, mask in enumerate(masks):
        half = layer[:, : layer.shape[1] // 2] if number == 0 else layer[:, layer.shape[1] // 2 :]
        colour = colour_of(("right lung", "left lung"), mask.label)
        assert (half[half[..., 3] > 0][:, :3] == colour).all()
        rows = np.flatnonzero(half[..., 3].any(1))
        assert abs(rows[0] / layer.shape[0] - 0.2) < 0.03 and abs(rows[-1] / layer.shape[0] - 0.8) < 0.03
    assert outline_of([], size) == ""


def test_the_legend_names_areas_and_a_film_without_lungs_says_why() -> None:
    mask = Mask("right lung", np.ones((4, 4), bool))
    both = (masked(mask, 0.214, area_cm2=83.6), masked(Mask("left lung", mask.values)))
    value = value_of(Evidence(regions=both))
    assert value and value["label"] == "Lungs' contour" and value["note"] == ""
    assert [row["told"] for row in value["legend"]] == ["21% of the image · 84 cm²", "20% of the image"]  # type: ignore[attr-defined]
    other = value_of(Evidence(regions=(masked(Mask("free air", mask.values)),)), "ko")
    assert other and other["label"] == "윤곽: free air"
    refused = value_of(Evidence(mask_reason="not_two_lungs"), "ko")
    assert refused and refused["legend"] == [] and "두 폐" in str(refused["note"])
    assert value_of(Evidence()) is None
    assert value_of(Evidence(notes=("not_a_radiograph",), mask_reason="colour")) is None
