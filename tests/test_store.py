"""The store: what is fetched, quantised and verified is whole, or is refused in a sentence, and goes on after a kill."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import tiny
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import LlavaForConditionalGeneration

from chat.engine import hub, store
from chat.engine.base import EngineError, EngineRefused, EngineUnavailable, Sampling
from chat.engine.checkpoint import EMBEDDED, FOUR_BIT_LLAVA, find_default, load, nf4
from chat.engine.local import LocalEngine
from chat.engine.quantize import quantize
from chat.engine.store import main, take, verify

ROOT = Path(__file__).parents[1]
COMMAND = (sys.executable, "-m", "chat.engine.checkpoint")
COMMIT = "0123456789" * 4


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16-bit, in two files, under the hub's names: those of transformers 4."""
    folder = tiny.build(tmp_path_factory.mktemp("original"), dtype=torch.float16, width=256)
    weights = load_file(folder / "model.safetensors")
    weights = {name.replace("vision_tower.", "vision_tower.vision_model."): weight for name, weight in weights.items()}
    names, weight_map = sorted(weights), {}
    for file, keys in (("model-00001-of-00002.safetensors", names[::2]), ("model-00002-of-00002.safetensors", names[1::2])):
        save_file({key: weights[key] for key in keys}, folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(keys, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / "model.safetensors").unlink()
    return folder


@pytest.fixture(scope="module")
def quantised(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("weights") / FOUR_BIT_LLAVA
    quantize(original, target, shard_bytes=1 << 20)
    return target


@pytest.fixture
def copy(quantised: Path, tmp_path: Path) -> Path:
    return shutil.copytree(quantised, tmp_path / "copy")


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def answer(folder: Path, four_bit: bool | None) -> tuple[int, ...]:
    engine = LocalEngine(load(folder, "cpu", four_bit))
    stream = engine.stream(tiny.question("폐렴?", tiny.picture(1)), Sampling(12, temperature=0), "a")
    return tuple(token for delta in stream for token in delta.ids)


class Hub(ThreadingHTTPServer):
    """The hub's download protocol on loopback for one repository, with what can go wrong as switches."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.status, self.error_code, self.listing = 200, "", b""
        self.sent = dict(files)  # what is sent, when it is not what is listed
        self.cut = 0  # a large file's answer ends after so many bytes, ...
        self.stall: threading.Event | None = None  # ... or stays open there until this is set
        self.asked: list[tuple[str, str]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        hub, path = self.server, unquote(urlsplit(self.path).path)
        hub.asked.append((path, self.headers.get("Range", "")))
        name = path.rpartition("/")[2]
        if hub.status != 200:
            self.reply(hub.status, b"no", {"X-Error-Code": hub.error_code})
        elif path.startswith("/api/models/"):
            self.reply(200, hub.listing or json.dumps(self.describe()).encode(), {"Content-Type": "application/json"})
        elif "/resolve/" in path and name.endswith(".safetensors"):
            self.reply(302, b"", {"Location": f"{hub.url}/cdn/{name}", "X-Repo-Commit": COMMIT})
        elif name in hub.sent:
            self.send_file(hub.sent[name])
        else:
            self.reply(404, b"", {"X-Error-Code": "EntryNotFound"})

    def describe(self) -> dict[str, Any]:
        siblings = []
        for name, data in self.server.files.items():
            blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            large = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 135}
            extra = {"lfs": large} if name.endswith(".safetensors") else {}
            siblings.append({"rfilename": name, "size": len(data), "blobId": blob, **extra})
        return {"id": "tiny/llava", "sha": COMMIT, "siblings": siblings}

    def send_file(self, data: bytes) -> None:
        wanted = self.headers.get("Range", "")
        start = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        end = start + self.server.cut if self.server.cut else len(data)
        self.wfile.write(data[start:end])
        if end < len(data) and self.server.stall:
            self.server.stall.wait(120)

    def reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(original: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that this process talks to. huggingface_hub reads its address at import, so that is where it is changed."""
    with Hub({path.name: path.read_bytes() for path in original.iterdir()}) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        )
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)
        yield server
        server.shutdown()


def test_quantising_writes_what_transformers_writes(tmp_path: Path) -> None:
    source = tiny.build(tmp_path / "source", dtype=torch.float16)
    model = LlavaForConditionalGeneration.from_pretrained(
        source, dtype=torch.bfloat16, device_map={"": "cpu"}, quantization_config=nf4(torch.bfloat16)
    )
    model.save_pretrained(tmp_path / "theirs")
    quantize(source, tmp_path / "ours")
    theirs, ours = (load_file(tmp_path / folder / "model.safetensors") for folder in ("theirs", "ours"))
    assert ours.keys() == theirs.keys()
    assert [
        name for name, weight in theirs.items() if weight.dtype != ours[name].dtype or not torch.equal(weight, ours[name])
    ] == []
    configs = [json.loads((tmp_path / folder / "config.json").read_text()) for folder in ("theirs", "ours")]
    assert configs[0] == configs[1]


def test_the_hubs_layout_loads_in_four_bits_and_answers_as_quantised_on_the_fly(original: Path, quantised: Path) -> None:
    assert len(list(quantised.glob("*.safetensors"))) > 3
    assert answer(quantised, None) == answer(original, True)


def test_a_manifest_names_source_and_every_file(original: Path, quantised: Path) -> None:
    manifest = verify(quantised)
    assert {*manifest["files"], store.MANIFEST} == {path.name for path in quantised.iterdir()}
    assert manifest["source"]["files"] == {name: sha for name, sha in hashes(original).items() if name.endswith("safetensors")}


KILLED = """
import os, pathlib, signal, sys
from chat.engine.quantize import quantize
source, target, shards = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), {}
for kill_at in (1, 2, 3, 2, 5):
    if not (child := os.fork()):
        left = iter(range(1, kill_at))
        def hook(event, args):
            if event == "os.rename" and next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)
        quantize(source, target, 1 << 20)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert not target.exists()
    part = target.with_name(target.name + ".part")
    assert not (part / "config.json").exists()
    now = {path.name: path.stat().st_mtime_ns for path in part.glob("*.safetensors")}
    print(len(now), flush=True)
    if kill_at > 1:
        kept = [name for name in shards if now.get(name) == shards[name]]
        assert len(kept) >= len(shards) - 1, (kept, shards, now)
    shards = now
quantize(source, target, 1 << 20)
"""


@pytest.mark.slow
def test_five_kills_later_it_is_the_same_checkpoint_and_no_finished_shard_was_made_again(
    original: Path, quantised: Path, tmp_path: Path
) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, original, tmp_path / "out"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {**hashes(tmp_path / "out"), store.MANIFEST: ""} == {**hashes(quantised), store.MANIFEST: ""}


def test_a_shard_that_was_damaged_between_two_runs_is_made_again(original: Path, quantised: Path, tmp_path: Path) -> None:
    part = shutil.copytree(quantised, tmp_path / "out.part")
    manifest = json.loads((part / store.MANIFEST).read_text())
    made_from = {key: manifest["source"][key] for key in ("files", "shard_bytes", "bitsandbytes")}
    shards = {name: file for name, file in manifest["files"].items() if name.endswith(".safetensors")}
    (part / "progress.json").write_text(json.dumps({"made_from": made_from, "done": shards}))
    with (part / min(shards)).open("r+b") as file:
        file.truncate(1000)
    kept = (part / max(shards)).stat().st_mtime_ns
    quantize(original, tmp_path / "out", shard_bytes=1 << 20)
    assert hashes(tmp_path / "out") == hashes(quantised)
    assert (tmp_path / "out" / max(shards)).stat().st_mtime_ns == kept


@pytest.mark.parametrize(
    "progress", ["", "[]", '{"made_from": 1, "done": {}}', '{"made_from": {}, "done": {"config.json": 1}}']
)
def test_progress_that_cannot_be_used_is_started_over(progress: str, original: Path, quantised: Path, tmp_path: Path) -> None:
    (tmp_path / "out.part").mkdir()
    (tmp_path / "out.part" / "progress.json").write_text(progress)
    (tmp_path / "out.part" / "model-00001-of-00009.safetensors").write_text("not weights")
    quantize(original, tmp_path / "out", shard_bytes=1 << 20)
    assert hashes(tmp_path / "out") == hashes(quantised)


def test_half_a_folder_is_never_taken_for_a_checkpoint(quantised: Path, tmp_path: Path) -> None:
    shutil.copytree(quantised, tmp_path / f"{FOUR_BIT_LLAVA}.part")
    assert find_default(ROOT / "models", tmp_path).name == EMBEDDED
    shutil.copytree(quantised, tmp_path / FOUR_BIT_LLAVA)
    assert find_default(ROOT / "models", tmp_path).name == FOUR_BIT_LLAVA


def test_what_cannot_be_quantised_is_refused_before_anything_is_written(
    original: Path, quantised: Path, tmp_path: Path
) -> None:
    with pytest.raises(EngineUnavailable, match="quantised already"):
        quantize(quantised, tmp_path / "out")
    with pytest.raises(EngineUnavailable, match="is there already"):
        quantize(original, quantised)
    with pytest.raises(EngineUnavailable, match="no checkpoint at"):
        quantize(tmp_path / "nowhere", tmp_path / "out")
    half = shutil.copytree(original, tmp_path / "half")
    with (half / "model-00002-of-00002.safetensors").open("r+b") as file:
        file.truncate(10_000)
    with pytest.raises(EngineUnavailable, match="cut short"):
        quantize(half, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.part").exists()


def test_two_at_once_are_one_too_many(original: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="Another process"), store.assembling(tmp_path / "out"):
        quantize(original, tmp_path / "out")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            lambda folder: flip(folder / "model-00002-of-00004.safetensors"),
            "model-00002-of-00004.safetensors does not have the SHA",
        ),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json is missing"),
        (lambda folder: (folder / "config.json").write_text("{}"), "config.json holds 2 bytes instead of"),
        (lambda folder: (folder / store.MANIFEST).unlink(), "holds no manifest.json"),
        (lambda folder: (folder / store.MANIFEST).write_text("{"), "not a manifest"),
        (
            lambda folder: (folder / store.MANIFEST).write_text('{"files": {"../x": {"bytes": 1, "sha256": ""}}}'),
            "not a manifest",
        ),
        (lambda folder: (folder / store.MANIFEST).write_text('{"files": {}}'), "not a manifest"),
        (shutil.rmtree, "no checkpoint at"),
    ],
)
def test_verify_says_what_is_wrong(damage: Any, said: str, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["verify", str(copy)])
    (copy / "verified.json").write_text("{}")
    main(["verify", str(copy)])
    damage(copy)
    with pytest.raises(SystemExit) as stopped:
        main(["verify", str(copy)])
    lines = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2 and len(lines) == 1 and said in lines[0]


def test_a_folder_that_is_here_is_taken_without_a_copy(original: Path, tmp_path: Path) -> None:
    take(original, tmp_path / "taken")
    take(original, tmp_path / "taken")
    assert all((original / name).samefile(tmp_path / "taken" / name) for name in verify(tmp_path / "taken")["files"])
    assert {path.name for path in (tmp_path / "taken").iterdir()} == {*hashes(original), store.MANIFEST}
    with pytest.raises(EngineUnavailable, match="made from something else"):
        take(shutil.copytree(original, tmp_path / "other"), tmp_path / "taken")


def test_a_folder_in_the_original_layout_is_converted_and_then_quantised(tmp_path: Path) -> None:
    ours, theirs = tiny.build(tmp_path / "ours", dtype=torch.float16), tmp_path / "theirs"
    config = json.loads((ours / "config.json").read_text())
    mine = {
        "model_type": "llava_llama",
        "mm_vision_tower": "tower",
        "mm_projector_type": "mlp2x_gelu",
        "image_aspect_ratio": "pad",
    }
    names = (
        ("language_model.model.", "model."),
        ("language_model.lm_head.", "lm_head."),
        ("multi_modal_projector.linear_1.", "model.mm_projector.0."),
        ("multi_modal_projector.linear_2.", "model.mm_projector.2."),
        ("vision_tower.", "model.vision_tower.vision_tower.vision_model."),
    )
    weights = {}
    for name, weight in load_file(ours / "model.safetensors").items():
        new, old = next(pair for pair in names if name.startswith(pair[0]))
        weights[old + name.removeprefix(new)] = weight
    shutil.copytree(ours, theirs, ignore=shutil.ignore_patterns("*.safetensors"))
    torch.save(weights, theirs / "pytorch_model.bin")
    (theirs / "config.json").write_text(json.dumps(config["text_config"] | mine | {"mm_vision_select_layer": -2}))
    (tmp_path / "tower").mkdir()
    (tmp_path / "tower" / "config.json").write_text(json.dumps(config["vision_config"]))
    with pytest.raises(EngineUnavailable, match="original layout"):
        quantize(theirs, tmp_path / "four")
    take(theirs, tmp_path / "weights" / "taken")
    take(theirs, tmp_path / "weights" / "taken")
    for source, target in ((tmp_path / "weights" / "taken", "converted"), (ours, "direct")):
        quantize(source, tmp_path / target)
    converted, direct = (load_file(tmp_path / folder / "model.safetensors") for folder in ("converted", "direct"))
    assert {name.replace("vision_tower.vision_model.", "vision_tower.") for name in converted} == set(direct)
    assert all(torch.equal(weight, direct[name.replace("vision_model.", "")]) for name, weight in converted.items())
    assert answer(tmp_path / "converted", None) == answer(tmp_path / "direct", None)


def test_what_is_fetched_is_what_the_hub_has(served: Hub, original: Path, tmp_path: Path) -> None:
    hub.fetch("tiny/llava", None, tmp_path / "got")
    manifest = verify(tmp_path / "got")
    assert manifest["source"] == {"repository": "tiny/llava", "revision": COMMIT}
    assert {name: file["sha256"] for name, file in manifest["files"].items()} == hashes(original)
    asked = len(served.asked)
    hub.fetch("tiny/llava", COMMIT, tmp_path / "got")
    assert len(served.asked) == asked
    assert constants.HF_HUB_OFFLINE


def test_a_hub_that_hangs_up_is_asked_for_the_rest_only(served: Hub, tmp_path: Path) -> None:
    served.cut = len(max(served.files.values(), key=len)) * 2 // 3
    hub.fetch("tiny/llava", None, tmp_path / "got")
    verify(tmp_path / "got")
    ranges = [wanted for path, wanted in served.asked if path.startswith("/cdn/") and wanted]
    assert ranges and "bytes=0-" not in ranges


def test_names_that_would_leave_the_folder_are_not_fetched(served: Hub, tmp_path: Path) -> None:
    served.files = {**served.files, "../evil.json": b"{}", "a/b.json": b"{}", "run.py": b"import os", "manifest.json": b"{}"}
    hub.fetch("tiny/llava", None, tmp_path / "got")
    assert {path.name for path in tmp_path.iterdir()} == {"got"}
    assert not {"b.json", "run.py"} & {path.name for path in (tmp_path / "got").iterdir()}


@pytest.mark.parametrize("name", ["model-00001-of-00002.safetensors", "tokenizer.json"])
def test_other_bytes_than_the_hub_announced_are_refused_and_removed(name: str, served: Hub, tmp_path: Path) -> None:
    served.sent[name] = served.files[name][:-1] + b"?"
    with pytest.raises(EngineRefused, match=f"{name} arrived with another hash"):
        hub.fetch("tiny/llava", None, tmp_path / "got")
    assert not (tmp_path / "got").exists()
    assert not [path for path in (tmp_path / "got.part").iterdir() if path.name.startswith(name)]
    served.sent = dict(served.files)
    hub.fetch("tiny/llava", None, tmp_path / "got")
    verify(tmp_path / "got")


def test_other_weights_under_the_pinned_commit_are_refused_before_they_are_fetched(served: Hub, tmp_path: Path) -> None:
    listing = json.dumps({
        "id": hub.REPOSITORY, "sha": hub.REVISION, "siblings": [
            {"rfilename": "config.json", "size": 2, "blobId": "0" * 40},
            {"rfilename": min(hub.WEIGHTS_SHA256), "size": 9, "lfs": {"sha256": "0" * 64, "size": 9, "pointerSize": 1}},
        ],
    })  # fmt: skip
    served.listing = listing.encode()
    with pytest.raises(EngineRefused, match="another model-00001"):
        hub.fetch(hub.REPOSITORY, None, tmp_path / "got")
    assert [path for path, _ in served.asked] == [f"/api/models/{hub.REPOSITORY}/revision/{hub.REVISION}"]


@pytest.mark.parametrize(
    ("status", "code", "listing", "kind", "said"),
    [
        (401, "", b"", EngineRefused, "set HF_TOKEN"),
        (403, "GatedRepo", b"", EngineRefused, "accept its licence"),
        (403, "", b"", EngineRefused, "FROM=DIR"),
        (404, "RepoNotFound", b"", EngineRefused, "has no tiny/llava"),
        (404, "RevisionNotFound", b"", EngineRefused, "no revision main"),
        (503, "", b"", EngineUnavailable, "HTTP 503"),
        (200, "", b"<html>a login page</html>", EngineRefused, "not answer as a Hugging Face hub"),
        (200, "", b"[]", EngineRefused, "not answer as a Hugging Face hub"),
        (200, "", b'{"id": "a/b", "sha": "main", "siblings": []}', EngineRefused, "not answer as a Hugging Face hub"),
        (200, "", b'{"id": "a/b", "sha": "%s", "siblings": []}' % COMMIT.encode(), EngineRefused, "no safetensors"),
    ],
)
def test_a_hub_that_says_no_is_one_sentence(
    status: int, code: str, listing: bytes, kind: type[EngineError], said: str, served: Hub, tmp_path: Path
) -> None:
    served.status, served.error_code, served.listing = status, code, listing
    with pytest.raises(kind, match=said) as raised:
        hub.fetch("tiny/llava", None, tmp_path / "got")
    assert "\n" not in str(raised.value) and not (tmp_path / "got").exists()


def test_a_hub_that_is_not_there_and_a_name_that_is_none(served: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineRefused, match="not the name of a repository"):
        hub.fetch("no/such/name", None, tmp_path / "got")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(EngineUnavailable, match=r"connection to http://127\.0\.0\.1:9 failed"):
        hub.fetch("tiny/llava", None, tmp_path / "got")


@pytest.mark.slow
def test_a_fetch_that_was_killed_goes_on_at_its_byte(served: Hub, tmp_path: Path) -> None:
    """Through the command line, with HF_HUB_OFFLINE set, as an app that never downloads has it."""
    large = os.urandom(24 << 20)
    served.files["model-00003-of-00003.safetensors"] = served.sent["model-00003-of-00003.safetensors"] = large
    served.cut, served.stall = 16 << 20, threading.Event()
    command = [*COMMAND, "fetch", "--repository", "tiny/llava", "--to", str(tmp_path / "got")]
    env = os.environ | {"HF_ENDPOINT": served.url, "HF_HUB_OFFLINE": "1"}
    draft = tmp_path / "got.part" / "model-00003-of-00003.safetensors.incomplete"
    with subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.DEVNULL) as process:
        for _ in range(1200):
            if process.poll() is not None or (draft.exists() and draft.stat().st_size):
                break
            time.sleep(0.1)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    reached = draft.stat().st_size
    served.stall.set()
    served.cut = 0
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [wanted for path, wanted in served.asked if path.endswith("00003.safetensors") and wanted][-1] == f"bytes={reached}-"
    assert (tmp_path / "got" / "model-00003-of-00003.safetensors").read_bytes() == large


FULL = """
set -e
mount -t tmpfs -o size=8m tmpfs {disk}
{command} && exit 1
umount {disk}
mount -t tmpfs -o size=64m,nr_inodes=8 tmpfs {disk}
{command} && exit 1
mount -o remount,nr_inodes=100 {disk}
{command}
"""


@pytest.mark.slow
def test_a_full_disk_is_told_beforehand_or_gone_on_from(original: Path, tmp_path: Path) -> None:
    """A file system of 8 MB, then one whose bytes are free but not its inodes: that is found out while writing."""
    if subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", tmp_path], capture_output=True).returncode:
        pytest.skip("Mounting a small file system in a namespace of our own is not permitted here.")
    command = " ".join([*COMMAND, "quantize", str(original), str(tmp_path / "out"), "--shard-mib", "1"])
    script = FULL.format(disk=tmp_path, command=command)
    done = subprocess.run(["unshare", "-rm", "bash", "-c", script], cwd=ROOT, capture_output=True, text=True)
    sentences = [line for line in done.stderr.splitlines() if line.startswith("hilum: ")]
    assert done.returncode == 0, done.stderr
    assert len(sentences) == 2
    assert "needs 0.02 GB of free disk and has 0.01 GB" in sentences[0]
    assert "is full" in sentences[1]
    assert "is ready" in done.stdout
