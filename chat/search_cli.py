"""`find` and `inspect` from a terminal.

Knows files, flags and standard output. Does not know pages or how anything is found.
"""

import csv
import io
import json
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chat.finding import Search
    from chat.settings import Settings
    from vision.anomaly import Memory

NAMES = ("find", "inspect")
FLAGS = ("--reference", "--text", "--budget", "--normal", "--gps")
EDGES = ("left", "top", "right", "bottom")
COLUMNS = ("image", "score", "hit", *EDGES, "hit_score", "latitude", "longitude", "error")


def add_commands(commands: Any, add_flags: Callable[[ArgumentParser], object]) -> None:
    """Both commands, behind the others."""
    find_parser = commands.add_parser("find", help="where something stands in a very large image", allow_abbrev=False)
    add_flags(find_parser)
    find_parser.add_argument("image", metavar="IMAGE")
    find_parser.add_argument("--reference", type=Path, metavar="REF", help="a picture of what to find")
    find_parser.add_argument("--text", default="", metavar="T", help="a description, such as 'a red star'")
    find_parser.add_argument("--budget", metavar="N", help="the most looks of the engine, 24 if unset; or seconds, as 30s")
    find_parser.add_argument("--json", action="store_true", help="the result as one JSON line")
    inspect_parser = commands.add_parser("inspect", help="the odd one out in rows of like parts", allow_abbrev=False)
    add_flags(inspect_parser)
    inspect_parser.add_argument("paths", metavar="IMAGE", nargs="+", help="an image, or a folder of them")
    inspect_parser.add_argument("--normal", type=Path, metavar="DIR", help="images without a defect, to compare with")
    inspect_parser.add_argument("--json", action="store_true", help="one JSON line per image")
    inspect_parser.add_argument("--csv", type=Path, metavar="OUT", help="a table with a row per hit, as a file")
    inspect_parser.add_argument("--gps", action="store_true", help="the photo's position in the table")


def run(settings: "Settings", chosen: Mapping[str, Any]) -> int:
    """The exit code. Raises StudyError, RequestError, EngineError, and OSError for files that are named."""
    if chosen["command"] == "find":
        return find(settings, Path(chosen["image"]), chosen["reference"], chosen["text"], chosen["budget"], chosen["json"])
    paths = [Path(path) for path in chosen["paths"]]
    return inspect(paths, chosen["normal"], settings.max_pixels, chosen["json"], chosen["csv"], chosen["gps"])


def find(settings: "Settings", image: Path, reference: Path | None, text: str, budget: str | None, as_json: bool) -> int:
    """Search and say what was found; progress goes to stderr. What cannot be asked is found out before a model is loaded."""
    from chat.assistant import Assistant
    from chat.cli import SESSION, read_image
    from chat.finding import Search, Wanted, check, find, read_budget
    from chat.loading import acceptance_of, open_engine

    study = read_image(image, settings.max_pixels)
    shown = read_image(reference, settings.max_pixels).image if reference else None
    language = None if settings.language == "auto" else settings.language
    wanted = Wanted(shown, text, *read_budget(budget), language)
    check(study, wanted)
    engine = open_engine(settings)
    assistant, acceptance = Assistant(engine, engine.input_side), acceptance_of(settings)
    last = Search()
    try:
        for last in find(assistant, study, wanted, acceptance, SESSION):
            if sys.stderr.isatty():
                print(f"\r{_counted(last)}", end="", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        pass  # what was found stays
    if sys.stderr.isatty():
        print(file=sys.stderr)
    print(json.dumps(last.result()) if as_json else _told(last), flush=True)
    return 0


def _counted(search: "Search") -> str:
    return f"ranked {search.ranked:.0%}, asked {search.asked} of {search.tiles} tiles, {search.passes} looks"


def _told(search: "Search") -> str:
    lines = [f"{hit.box.left} {hit.box.top} {hit.box.right} {hit.box.bottom}  {hit.score:.2f}" for hit in search.hits]
    cover = f"{_counted(search)}, at {search.pixels} pixels per tile"
    words = " (asked in words: this engine gives no probabilities)" if search.in_words else ""
    return "\n".join([*lines, f"found: {cover}{words}" if lines else f"not found: {cover}{words}"])


def inspect(
    paths: Sequence[Path], normal: Path | None, max_pixels: int, as_json: bool, table: Path | None, with_position: bool
) -> int:
    """Inspect each image: a line each, and a CSV `table` with a row per hit; 1 when a file could not be read."""
    from tqdm import tqdm

    from chat.cli import find_images, read_image
    from vision.anomaly import inspect
    from vision.study import StudyError

    memory = learn_normal(find_images([normal]), max_pixels) if normal else None
    rows: list[dict[str, object]] = []
    failed = 0
    files = find_images(paths)
    for file in tqdm(files, unit="image", disable=None if len(files) > 1 else True):
        try:
            result = inspect(read_image(file, max_pixels).image, memory).result(str(file))
            place = _position(file.read_bytes()) if with_position else {}
        except (StudyError, OSError) as error:
            said = str(error) if isinstance(error, StudyError) else f"This file cannot be read: {error.strerror or error}."
            result, place, failed = {"image": str(file), "error": said}, {}, failed + 1
        rows += _flat(result, place)
        tqdm.write(json.dumps(result, ensure_ascii=False) if as_json else _line(result))
    if table:
        with table.open("w", encoding="utf-8", newline="") as out:
            writer = csv.DictWriter(out, [name for name in COLUMNS if with_position or name not in ("latitude", "longitude")])
            writer.writeheader()
            writer.writerows(rows)
    return 1 if failed else 0


def learn_normal(files: Sequence[Path], max_pixels: int) -> "Memory":
    """What images without a defect look like. Raises RequestError where nothing repeats in them, StudyError and OSError."""
    from chat.assistant import RequestError
    from chat.cli import read_image
    from vision.anomaly import remember

    memory = remember([read_image(file, max_pixels).image for file in files])
    if memory is None:
        raise RequestError("no_normal", "Nothing repeats in the normal images; choose another folder, or leave out --normal.")
    return memory


def _flat(result: Mapping[str, Any], place: Mapping[str, object]) -> list[dict[str, object]]:
    """A row per hit, and one for an image without any."""
    common = {"image": result["image"], "score": result.get("score"), "error": result.get("error"), **place}
    hits = [
        {**common, "hit": number, "hit_score": hit["score"], **dict(zip(EDGES, hit["box"], strict=True))}
        for number, hit in enumerate(result.get("hits", ()), start=1)
    ]
    return hits or [common]


def _line(result: Mapping[str, Any]) -> str:
    if "error" in result:
        return f"{result['image']}: {result['error']}"
    if not result["repeating"]:
        return f"{result['image']}: nothing repeats in this image, so there is no odd one out."
    boxes = "; ".join(" ".join(map(str, hit["box"])) for hit in result["hits"])
    return f"{result['image']}: {result['score']:.2f}  {boxes}"


def _position(data: bytes) -> dict[str, object]:
    """The latitude and longitude in degrees that a photo's EXIF gives; nothing where it gives none."""
    from PIL import Image
    from PIL.ExifTags import GPS, IFD

    try:
        with Image.open(io.BytesIO(data)) as file:
            given = file.getexif().get_ifd(IFD.GPSInfo)
        found: dict[str, object] = {}
        for name, value, side, minus in (
            ("latitude", GPS.GPSLatitude, GPS.GPSLatitudeRef, "S"), ("longitude", GPS.GPSLongitude, GPS.GPSLongitudeRef, "W"),
        ):  # fmt: skip
            degrees, minutes, seconds = (float(part) for part in given[value])
            sign = -1 if str(given.get(side, "")).upper().startswith(minus) else 1
            found[name] = round(sign * (degrees + minutes / 60 + seconds / 3600), 7)
        return found
    except (OSError, KeyError, TypeError, ValueError, ZeroDivisionError, SyntaxError):
        return {}
