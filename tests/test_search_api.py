"""`/find` and `/inspect`, from outside: a real server on loopback."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from served import Served, serve
from test_anomaly import chain, covers

from benchmarks.search_scenes import draw_case
from vision.tiling import Box


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("search-api"), max_pixels=4_000_000) as running:
        yield running


def put(folder: Path, name: str, image: Any) -> Any:
    image.save(folder / name)
    return handle_file(str(folder / name))


def test_a_search_and_an_inspection_are_called_by_name(served: Served, tmp_path: Path) -> None:
    client = Client(served.url, verbose=False)
    case = draw_case(np.random.default_rng(2), (400, 300), True)
    scene, reference = put(tmp_path, "scene.png", case.image), put(tmp_path, "reference.png", case.reference)
    found = client.predict(scene, reference, None, 3, api_name="/find")
    assert found["ranked"] == 1 and found["passes"] <= 3 and isinstance(found["found"], bool)
    image, gap = chain(1, 8)
    odd = client.predict(put(tmp_path, "chain.png", image), api_name="/inspect")
    assert covers(Box(*odd["hits"][0]["box"]), gap)
    normal = [put(tmp_path, f"normal-{seed}.png", chain(seed, None)[0]) for seed in (20, 21)]
    held = client.predict(put(tmp_path, "chain.png", image), normal, api_name="/inspect")
    assert covers(Box(*held["hits"][0]["box"]), gap) and held["hits"] != odd["hits"]
    for arguments in (
        (scene, None, "", None),
        (scene, reference, "", 0),
        (scene, put(tmp_path, "s.png", tiny.picture(1, (9, 7))), "", 1),
    ):
        with pytest.raises(AppError) as refused:
            client.predict(*arguments, api_name="/find")
        assert len(str(refused.value)) < 200


def test_normal_images_that_cannot_be_compared_with_are_one_sentence(served: Served, tmp_path: Path) -> None:
    client = Client(served.url, verbose=False)
    image = put(tmp_path, "chain.png", chain(1, 8)[0])
    plain = put(tmp_path, "plain.png", Image.new("RGB", (300, 300)))
    large = [put(tmp_path, f"{seed}.png", Image.new("RGB", (1500, 1000))) for seed in range(3)]
    (tmp_path / "text.png").write_text("no image")
    text = handle_file(str(tmp_path / "text.png"))
    for normal, words in (([plain], "Nothing repeats"), ([plain] * 13, "1 to 12"), (large, "4,000,000"), ([text], "image")):
        with pytest.raises(AppError, match=words):
            client.predict(image, normal, api_name="/inspect")
    assert served.left_over() == []
