"""Bad inputs: every file that could break a decoder, given to a process that reads them as the page does.

    python -m benchmarks.prove_decode [--json] [--mutations 100000] [--data ../shared/data]

Reads the hostile files beside the project where they are there, the hand-made ones of `tests/bad_files.py`, what the decoders'
own packages carry, and seeded mutations of good files. Counts how often the reading process died, how often a file took more
than ten seconds, how much memory the process had gained at the end, and which refusals were not said in both languages; and
how much longer an ordinary image and a photograph of 12 megapixels take than without their guard. The exit code is 1 when one
of these is not as promised.
"""

import argparse
import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import chain
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from statistics import median

from PIL import Image

from chat.memory import give_back
from chat.ui.words import explain
from chat.wording import LANGUAGES
from tests.bad_files import PICTURE, bad_files, good_files, saved
from vision.study import StudyError, read_study, read_trusted

SHARED = Path("../shared/data")
WARM = 200  # files until the memory is measured first: libraries are loaded, both children have been replaced or not
MOST_SECONDS, MOST_GROWTH_MIB, MOST_EXTRA_MS = 10.0, 5.0, 30.0


def judge(data: bytes) -> str:
    """ "study", or the reason of a refusal that is a sentence in both languages; else "unworded"."""
    try:
        image = read_study(data).image
        return "study" if image.mode == "RGB" and not image.info else "unworded"
    except StudyError as error:
        said = [str(error), *(explain(error, language) for language in LANGUAGES)]
        is_worded = all(text.endswith(".") and not {"{", "\n"} & {*text} for text in said)
        return error.reason if is_worded else "unworded"
    except Exception:
        return "unworded"


def mutations(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Good files of every kind with a few bytes changed, cut, doubled, taken out, or joined to another file."""
    draw, seeds = random.Random(seed), good_files()
    for number in range(count):
        name = draw.choice([*seeds])
        data = bytearray(seeds[name])
        for _ in range(draw.randint(1, 6)):
            place = draw.randrange(min(len(data), draw.choice([64, 1024, 1 << 30])))
            length = draw.choice([1, 2, 4, 50])
            match draw.randrange(6):
                case 0 | 1:
                    data[place : place + 1] = draw.randbytes(1)
                case 2:
                    data[place : place + length] = draw.choice([b"\0", b"\xff", b"\x7f", b"\x80"]) * length
                case 3:
                    del data[place : place + length]
                case 4:
                    data[place:place] = data[place : place + length]
                case _:
                    cut = draw.choice([place, len(data)])
                    data[cut:] = draw.choice([*seeds.values()])[cut:][: draw.randrange(2000)]
            data = data or bytearray(b"\0")
        yield f"mutation {number} of {name}", bytes(data)


def carried() -> Iterator[tuple[str, bytes]]:
    """Whatever Pillow's and pydicom's installed packages hold beside code."""
    for package in ("PIL", "pydicom"):
        spec = find_spec(package)
        for path in sorted(Path(str(spec and spec.origin)).parent.rglob("*")):
            if path.is_file() and path.suffix not in {".py", ".pyc", ".pyi", ".so", ".pyd"}:
                yield f"{package}: {path.name}", path.read_bytes()


def hostile(data: Path) -> Iterator[tuple[str, bytes]]:
    yield from ((path.name, path.read_bytes()) for path in sorted((data / "bad_inputs").rglob("*")) if path.is_file())


def _serve(requests: Connection) -> None:
    while True:
        if (data := requests.recv()) is None:
            give_back()  # as Hilum does when it has answered and nobody waits
            requests.send(None)
            continue
        started = time.perf_counter()
        reason = judge(data)
        requests.send((reason, time.perf_counter() - started))


def _server() -> tuple[BaseProcess, Connection]:
    ours, theirs = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def _resident_mib(process: BaseProcess, requests: Connection) -> float:
    """What is in use when what was freed has been given back."""
    requests.send(None)
    requests.recv()
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def measure(files: Iterator[tuple[str, bytes]]) -> dict[str, object]:
    process, requests = _server()
    outcomes: Counter[str] = Counter()
    deaths, over, before, slowest = 0, 0, 0.0, (0.0, "")
    unworded: list[str] = []
    for number, (name, data) in enumerate(files):
        if number == WARM:
            before = _resident_mib(process, requests)
        try:
            requests.send(data)
            reason, seconds = requests.recv()
        except (EOFError, OSError):
            deaths += 1
            process, requests = _server()
            continue
        outcomes[reason] += 1
        over += seconds > MOST_SECONDS
        slowest = max(slowest, (seconds, name))
        unworded += [name] if reason == "unworded" else []
    growth = _resident_mib(process, requests) - before
    process.terminate()
    return {
        "files": outcomes.total() + deaths, "process_deaths": deaths, "over_10_s": over, "rss_growth_mib": round(growth, 1),
        "unworded": len(unworded),
        "slowest_s": round(slowest[0], 2), "slowest": slowest[1], "outcomes": dict(outcomes.most_common()),
    }  # fmt: skip


def guard_costs(rounds: int = 15) -> dict[str, dict[str, float]]:
    """Of interleaved runs the median milliseconds of decoding here and behind the guard: their difference and ratio."""
    wide, photo = PICTURE.resize((1600, 1200)), PICTURE.resize((4000, 3000))
    grain = Image.effect_noise(photo.size, 12).convert("RGB")
    images = {
        "JPEG, 2 MP": saved(wide, "JPEG"),
        "PNG, 2 MP": saved(wide, "PNG"),
        "grey JPEG, 2 MP": saved(wide.convert("L"), "JPEG"),
        "JPEG, 12 MP with grain": saved(Image.blend(photo, grain, 0.2), "JPEG", quality=90),
    }
    found = {}
    for name, data in images.items():
        taken: dict[object, list[float]] = {read_trusted: [], read_study: []}
        for _ in range(rounds):
            for read in (read_trusted, read_study):
                started = time.perf_counter()
                read(data)
                taken[read].append(1000 * (time.perf_counter() - started))
        here, guarded = (median(taken[read]) for read in (read_trusted, read_study))
        found[name] = {
            "here_ms": round(here, 1), "guarded_ms": round(guarded, 1),
            "extra_ms": round(guarded - here, 1), "ratio": round(guarded / here, 2),
        }  # fmt: skip
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prove_decode", description="What bad files do to Hilum.")
    parser.add_argument("--json", action="store_true", help="print the result as JSON alone")
    parser.add_argument("--mutations", type=int, default=20_000, help="how many (default: 20,000)")
    parser.add_argument("--data", type=Path, default=SHARED, help=f"a folder with bad_inputs/ (default: {SHARED})")
    given = parser.parse_args()
    found = measure(chain(bad_files(), carried(), hostile(given.data), mutations(given.mutations)))
    costs = guard_costs()
    found |= {"mutations": given.mutations, "guard_costs": costs}
    if given.json:
        print(json.dumps({"bad_inputs": found}, indent=1))
    else:
        print("\n".join(f"{name:15} {value}" for name, value in found.items()))
    is_kept = not (found["process_deaths"] or found["over_10_s"] or found["unworded"])
    is_kept = is_kept and max(cost["extra_ms"] for cost in costs.values()) <= MOST_EXTRA_MS
    return 0 if is_kept and float(str(found["rss_growth_mib"])) <= MOST_GROWTH_MIB else 1


if __name__ == "__main__":
    raise SystemExit(main())
