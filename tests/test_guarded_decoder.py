"""Whatever a file does to its decoder, the next file is read, and nothing of either is left behind."""

import os
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset

from benchmarks.prove_decode import judge, mutations
from chat.ui.vault import PREFIX
from tests.bad_files import PICTURE, bad_files, dicom, good_files, png, saved
from vision.guard import Answer, GuardError, Pool
from vision.study import Study, StudyError, read_study, read_trusted

ROOT = Path(__file__).parents[1]
TASK = "tests.guarded:behave"
linux = pytest.mark.skipif(sys.platform != "linux", reason="Where there is no /proc, less is promised.")


@pytest.fixture(scope="module")
def guards() -> Pool:
    return Pool(TASK)


def ask(pool: Pool, name: str, argument: int = 0, seconds: float = 60) -> dict[str, object]:
    told, arrays = pool.run(name.encode(), argument, 1 << 20, seconds)
    assert arrays[0].tobytes() == name.encode()
    return told


def pid(pool: Pool) -> int:
    return int(str(ask(pool, "echo")["pid"]))


# The child


def test_a_child_answers_by_its_function_alone_and_stays(guards: Pool) -> None:
    assert ask(guards, "echo", 2**40)["argument"] == 2**40
    assert pid(guards) == pid(guards) != os.getpid()


@pytest.mark.parametrize(
    ("name", "error"),
    [("crash", GuardError), ("fail", GuardError), ("leave", GuardError), ("eat", MemoryError), ("killed", MemoryError)],
)
def test_a_child_that_fails_takes_nobody_with_it(name: str, error: type[Exception], guards: Pool) -> None:
    before = pid(guards)
    with pytest.raises(error):
        ask(guards, name)
    assert pid(guards) != before


@pytest.mark.slow
@linux
def test_a_child_that_hangs_is_ended_and_the_next_request_works() -> None:
    pool = Pool(TASK, most=3)
    with ThreadPoolExecutor() as threads:
        hung = [threads.submit(ask, pool, name, 0, seconds) for name, seconds in (("turn", 60), ("sleep", 60), ("deaf", 1))]
    assert [type(each.exception()) for each in hung] == [TimeoutError] * 3
    assert pid(pool)


@linux
def test_a_file_may_take_what_its_header_declares(guards: Pool) -> None:
    assert ask(guards, "eat", 500_000_000)


@pytest.mark.parametrize("lie", [0, 1, 3, 4])
def test_a_child_that_was_taken_over_can_only_give_numbers(lie: int, guards: Pool) -> None:
    with pytest.raises(GuardError):
        ask(guards, "lie", lie)
    assert pid(guards)


def test_a_child_that_gives_less_than_it_said_is_waited_for_no_longer_than_any(guards: Pool) -> None:
    with pytest.raises(TimeoutError):
        ask(guards, "lie", 2, seconds=2)
    assert pid(guards)


@linux
def test_a_child_that_died_while_idle_is_replaced_unseen(guards: Pool) -> None:
    idle = pid(guards)
    os.kill(idle, signal.SIGKILL)
    while Path(f"/proc/{idle}/stat").exists() and " Z " not in Path(f"/proc/{idle}/stat").read_text():
        time.sleep(0.01)
    assert pid(guards) != idle


def test_a_child_retires_after_so_many_files() -> None:
    pool = Pool(TASK, serves=3)
    pids = [pid(pool) for _ in range(7)]
    assert pids[:3] == pids[:1] * 3 and pids[3:6] == pids[3:4] * 3 and len({*pids}) == 3


def test_many_threads_share_two_children() -> None:
    pool = Pool(TASK)
    with ThreadPoolExecutor(12) as threads:
        assert 1 <= len({*threads.map(lambda _: pid(pool), range(60))}) <= 2


def open_files() -> set[int]:
    """The numbers that are taken; the one that is needed to list them is free again."""
    return {int(file.name) for file in [*Path("/proc/self/fd").iterdir()] if os.path.lexists(file)}


@linux
def test_where_no_child_can_be_started_nothing_is_left_open() -> None:
    before, empty, taken = open_files(), Pool(TASK), list[int]()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before) + 10, hard))
    try:
        with suppress(OSError):  # every number is taken, gaps too
            while True:
                taken.append(os.dup(0))
        for _ in range(6):  # too few files at each step of a start
            with pytest.raises(MemoryError):
                empty.run(b"echo", 0, 99, 60)
            os.close(taken.pop())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for file in taken:
            os.close(file)
    assert open_files() == before
    assert pid(empty)


@linux
def test_a_child_inherits_no_secret_and_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HILUM_API_KEY", "sk-secret")
    with (tmp_path / "patient").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        seen = ask(Pool(TASK), "look")
    assert "sk-secret" not in str(seen["environ"]) and "HOME" not in str(seen["environ"])
    assert [file for file in seen["files"] if not file.startswith(("pipe:", "/proc/"))] == []  # type: ignore[attr-defined]


def run(code: str, *, ends: int = 0) -> list[str]:
    """The lines that a process of this code prints before it ends with this code."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)
    assert done.returncode == ends, done.stderr
    return done.stdout.split()


AT_WORK = """if True:
    import os, signal, threading, time
    from vision.guard import Pool
    pool = Pool("tests.guarded:behave")
    print(pool.run(b"echo", 0, 99, 60)[0]["pid"], flush=True)
    threading.Thread(target=pool.run, args=(b"sleep", 0, 99, 60), daemon=True).start()
    while pool._slots.qsize() == 2:
        time.sleep(0.01)
    {end}
"""


def is_gone(child: str) -> bool:
    stat = Path(f"/proc/{child}/stat")
    return not stat.exists() or " Z " in stat.read_text()


@linux
def test_a_process_that_ends_ends_its_children_in_their_work() -> None:
    assert is_gone(run(AT_WORK.format(end=""))[0])


@linux
def test_a_process_that_is_killed_leaves_no_child_and_no_memory() -> None:
    before = set(Path("/dev/shm").iterdir())
    (child,) = run(AT_WORK.format(end="os.kill(os.getpid(), signal.SIGKILL)"), ends=-signal.SIGKILL)
    for _ in range(3000):  # a child at work first meets its own deadline
        if is_gone(child):
            break
        time.sleep(0.01)
    assert is_gone(child)
    for _ in range(500):  # what tests beside this one keep there goes with them; vaults are not its own
        if not (left := {path for path in Path("/dev/shm").iterdir() if not path.name.startswith(PREFIX)} - before):
            break
        time.sleep(0.01)
    assert not left


@linux
def test_a_fork_has_children_of_its_own() -> None:
    code = """if True:
        import os
        from tests.bad_files import png
        from vision.decode import pool
        from vision.study import read_study
        read_study(png(64, 48))
        ours = pool()
        fork = os.fork()
        for _ in range(50):
            assert read_study(png(64, 48)).image.size == (64, 48)
        assert (pool() is ours) == (fork != 0)
        print("fork" if fork == 0 else os.waitpid(fork, 0)[1], flush=True)
        os._exit(0)
    """
    assert run(code) == ["fork", "0"]


def test_a_child_is_not_asked_to_import_what_it_does_not_need() -> None:
    code = "import vision.decode, vision.dicom, vision.raster"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert "pydicom" in done.stderr
    assert [name for name in ("torch", "transformers", "gradio", "monai", "scipy") if f" {name}\n" in done.stderr] == []


# What comes back


def sixteen_bits() -> bytes:
    return saved(Image.fromarray(np.arange(40 * 50, dtype=np.uint16).reshape(40, 50) * 30), "PNG")


def with_table() -> bytes:
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [2000, 0, 16], np.arange(2000, dtype="<u2").tobytes()
    table["LUTDescriptor"].VR = "US"
    return dicom(VOILUTSequence=[table])


SAME = {
    "colour": lambda: saved(PICTURE, "JPEG"),
    "grey": lambda: png(64, 48),
    "alpha": lambda: saved(Image.new("RGBA", (20, 30), (200, 10, 10, 128)), "WEBP"),
    "16 bits": sixteen_bits,
    "floats": lambda: saved(Image.fromarray(np.linspace(-1, 1, 2000, dtype=np.float32).reshape(40, 50)), "TIFF"),
    "film": lambda: dicom(
        PixelSpacing=[0.2, 0.1], Modality="CR", ViewPosition="PA", Laterality="R", WindowCenter=[700, 300], WindowWidth=[9, 90]
    ),
    "Hounsfield": lambda: dicom(Modality="CT", RescaleSlope=2, RescaleIntercept=-1024),
    "table": with_table,
}


@pytest.mark.parametrize("name", SAME)
def test_a_child_gives_the_study_that_this_process_would(name: str) -> None:
    data = SAME[name]()
    here, there = vars(read_trusted(data)).copy(), vars(read_study(data)).copy()
    images, raws = [each.pop("image") for each in (here, there)], [each.pop("raw") for each in (here, there)]
    assert type(images[1]) is Image.Image and images[0].mode == images[1].mode and images[0].tobytes() == images[1].tobytes()
    assert here == there
    assert (raws[0] is None) == (raws[1] is None) == (name in ("colour", "alpha"))
    if raws[0] is not None:
        for part in ("values", "lut"):
            ours, theirs = (vars(raw)[part] for raw in raws)
            pairs = [(ours, theirs)] if part == "values" else [(ours.entries, theirs.entries)] if ours is not None else []
            assert [one.dtype for one, _ in pairs] == [other.dtype for _, other in pairs]
            assert all((one == other).all() for one, other in pairs)
        ours, theirs = ({k: v for k, v in vars(raw).items() if k not in ("values", "lut")} for raw in raws)
        assert ours == theirs and {*map(type, ours.values())} == {*map(type, theirs.values())}


@pytest.mark.parametrize("data", [b"", b"Dear doctor", png(4, 9), png(64, 48)[:-40], dicom()[:-9], dicom(Rows=60_000)])
def test_a_child_refuses_as_this_process_would(data: bytes) -> None:
    with pytest.raises(StudyError) as here:
        read_trusted(data)
    with pytest.raises(StudyError) as there:
        read_study(data)
    assert (here.value.reason, here.value.fields, str(here.value)) == (there.value.reason, there.value.fields, str(there.value))


class Failing(Pool):
    """Children that do this instead of decoding."""

    name = b""

    def run(self, data: bytes, argument: int, most_bytes: int, seconds: float) -> Answer:
        return super().run(self.name, argument, most_bytes, min(seconds, 1))


@pytest.mark.parametrize(
    ("name", "reason"),
    [("killed", "not_enough_memory"), ("eat", "not_enough_memory"), ("deaf", "took_too_long"), ("crash", "broken")],
)
def test_what_happens_to_a_child_is_one_sentence_about_the_file(
    name: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = Failing(TASK)
    failing.name = name.encode()
    with monkeypatch.context() as patched:
        patched.setattr("vision.decode.pool", lambda: failing)
        assert judge(png(64, 48)) == reason
    assert judge(png(64, 48)) == "study"


def test_a_child_that_was_taken_over_has_no_word_in_a_study(monkeypatch: pytest.MonkeyPatch) -> None:
    speaking = Pool("tests.guarded:speak")
    monkeypatch.setattr("vision.decode.pool", lambda: speaking)
    assert judge(png(64, 48)) == "broken"


# Which files are opened


@pytest.mark.parametrize("start", [bytes(128), b"II*\0" + bytes(124), b"MM\0*\0\0\0\x08" + bytes(120)])
def test_a_preamble_that_the_standard_knows_is_read(start: bytes) -> None:
    assert isinstance(read_study(start + dicom()[128:]), Study)


@pytest.mark.parametrize(
    "start", [b"MZ\x90\0", b"\x7fELF", b"#!/bin/sh\n", b"PK\3\4", b"GIF89a", b"<script>", bytes(40) + b"%PDF-1.7"]
)
def test_a_preamble_that_is_another_kind_of_file_is_refused(start: bytes) -> None:
    with pytest.raises(StudyError) as caught:
        read_study(start.ljust(128, b"\0") + dicom()[128:])
    assert caught.value.reason == "dicom_preamble"


def test_a_file_of_too_many_bytes_is_refused_before_anything_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vision.study.MAX_BYTES", 1000)
    with pytest.raises(StudyError) as caught:
        read_study(png(64, 48).ljust(1001, b"\0"))
    assert (caught.value.reason, caught.value.fields) == ("too_many_bytes", {"limit": 1000})


# Whatever comes


def test_every_file_made_by_hand_gives_a_study_or_a_sentence() -> None:
    files = list(bad_files())
    assert len({name for name, _ in files}) == len(files) >= 150
    outcomes = {name: judge(data) for name, data in files}
    assert [name for name, outcome in outcomes.items() if outcome in ("unworded", "took_too_long", "not_enough_memory")] == []
    assert {"study", "broken", "too_many_pixels", "dicom_preamble"} <= {*outcomes.values()}


def test_every_good_file_is_read() -> None:
    assert {name: judge(data) for name, data in good_files().items()} == dict.fromkeys(good_files(), "study")


def test_mutations_of_good_files_give_a_study_or_a_sentence() -> None:
    files = list(mutations(300, seed=1))
    assert files == list(mutations(300, seed=1)) != list(mutations(300, seed=2))
    assert "unworded" not in {judge(data) for _, data in files}
