"""The hub: a 16-bit checkpoint from a Hugging Face repository, at one commit, resumed where it broke off.

Knows repositories and downloads; with `remote.py` the only file that uses a network, and only when `fetch` is asked for. Does
not know tensors. Plain HTTP with ranges, not Xet: huggingface_hub 2 drops half a file when its process ends, 14 GB are too many
for that, and its own `http_get` can go on.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from httpx2 import HTTPError, InvalidURL
from huggingface_hub import HfApi, constants, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

from chat.engine.base import EngineError, EngineRefused, EngineUnavailable
from chat.engine.store import MANIFEST, Entry, assembling, entry, is_there, require_space, seal

REPOSITORY = "llava-hf/llava-1.5-7b-hf"
REVISION = "b234b804b114d9e37bb655e11cbbb5f5e971b7a9"
WEIGHTS_SHA256 = {
    "model-00001-of-00003.safetensors": "c11dbf016ee7d35ee130c19b67e20eb04873996006f424b7bcbd453b6517ee66",
    "model-00002-of-00003.safetensors": "46df6c6e5fad297fe7fbca4963dcf180cb1d0528cabc884d1f603311fed01328",
    "model-00003-of-00003.safetensors": "4f06177c37ca13944e73b57dd6d051767b950dffc12400c700dfa2509c24c697",
}
"""The weights of that commit, as public projects that pin it record them; the hub's own answer has to agree."""

_COMMIT = re.compile("[0-9a-f]{40}")
_WANTED = re.compile(r"[\w.-]+\.(safetensors|json|jinja)|tokenizer\.model")
"""Files at the top of a repository that a LLaVA checkpoint is made of."""


def fetch(repository: str, revision: str | None, target: Path) -> None:
    """Put the checkpoint of `repository` at `revision` into `target`, every file checked against the hash that the hub gives.

    Goes on where an earlier run broke off. HF_ENDPOINT and HF_TOKEN hold; HF_HUB_OFFLINE does not, for this was asked for.
    Raises EngineUnavailable (no connection, no space) or EngineRefused (the hub says no, or sends something else).
    """
    revision = revision or (REVISION if repository == REPOSITORY else "main")
    if is_there(target, {"repository": repository, **({"revision": revision} if _COMMIT.fullmatch(revision) else {})}):
        return
    with assembling(target) as part, _online(), _hub_errors(repository, revision):
        commit, files = _listing(repository, revision)
        present = sum(path.stat().st_size for path in part.iterdir())
        require_space(part, max(0, sum(file.size or 0 for file in files) - present))
        headers = build_hf_headers()
        kept: dict[str, Entry] = {}
        for file in files:
            url = hf_hub_url(repository, file.rfilename, revision=commit)
            kept[file.rfilename] = _get(url, part / file.rfilename, file, headers)
        for path in part.iterdir():
            if path.name not in kept:
                path.unlink()
        seal(part, {"repository": repository, "revision": commit}, kept)


def _listing(repository: str, revision: str) -> tuple[str, list[RepoSibling]]:
    """The commit behind a revision and its files, each with a size and a hash; known hashes have to agree."""
    try:
        info = HfApi().model_info(repository, revision=revision, files_metadata=True, timeout=30)
        files = [file for file in info.siblings or () if _WANTED.fullmatch(file.rfilename) and file.rfilename != MANIFEST]
        if not _COMMIT.fullmatch(info.sha or "") or not all(_is_described(file) for file in files):
            raise ValueError("a listing without commit, sizes or hashes")
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        if isinstance(error, HFValidationError | HTTPError):
            raise
        raise EngineRefused(f"{_host()} does not answer as a Hugging Face hub does. Check HF_ENDPOINT.") from error
    names = {file.rfilename for file in files}
    if "config.json" not in names or not any(name.endswith(".safetensors") for name in names):
        raise EngineRefused(f"{repository} holds no config.json, or no safetensors; Hilum reads nothing else. Name another.")
    for file in files:
        pinned = WEIGHTS_SHA256.get(file.rfilename)
        if info.sha == REVISION and pinned and not (file.lfs and file.lfs.sha256 == pinned):
            raise EngineRefused(
                f"The hub offers another {file.rfilename} than this commit had. Do not use it; check HF_ENDPOINT."
            )
    return str(info.sha), files


def _is_described(file: RepoSibling) -> bool:
    return isinstance(file.size, int) and file.size >= 0 and bool(file.lfs.sha256 if file.lfs else file.blob_id)


def _get(url: str, path: Path, file: RepoSibling, headers: Mapping[str, str]) -> Entry:
    """One file, from the byte where an earlier run stopped. Raises EngineRefused, and keeps nothing, if its hash is another."""
    size, draft = file.size or 0, path.with_name(f"{path.name}.incomplete")
    if path.exists() and _is_genuine(path, file):
        return entry(path)
    # The hub may send small files compressed, where a range would count other bytes.
    done = draft.stat().st_size if file.lfs and draft.exists() else 0
    done = done if done <= size else 0
    with draft.open("ab" if done else "wb") as stream:
        http_get(url, stream, resume_size=done, headers=dict(headers), expected_size=size, displayed_filename=path.name)
    if not _is_genuine(draft, file):
        draft.unlink()
        raise EngineRefused(f"{path.name} arrived with another hash than the hub gives for it, and was removed. Run it again.")
    draft.replace(path)
    return entry(path)


def _is_genuine(path: Path, file: RepoSibling) -> bool:
    """By SHA-256 where the hub knows it (large files), else by git's own hash of a blob."""
    if path.stat().st_size != file.size:
        return False
    if file.lfs:
        return entry(path)["sha256"] == file.lfs.sha256
    return hashlib.sha1(b"blob %d\0" % (file.size or 0) + path.read_bytes()).hexdigest() == file.blob_id


@contextmanager
def _online() -> Iterator[None]:
    """Hilum and its tests keep huggingface_hub offline; it reads that once, at import."""
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, False
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def _hub_errors(repository: str, revision: str) -> Iterator[None]:
    """The one place where the hub client's exceptions become ours. A disk's own go on to `assembling`."""
    host, again = _host(), "run the same command again, it goes on from there"
    try:
        yield
    except EngineError:
        raise
    except RevisionNotFoundError as error:
        raise EngineRefused(f"{repository} has no revision {revision} at {host}. Check --revision.") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if isinstance(error, GatedRepoError) or status == 403:
            sentence = (
                f"{host} does not let you have {repository}: accept its licence there and set HF_TOKEN, or give FROM=DIR."
            )
            raise EngineRefused(sentence) from error
        if status in (401, 404):
            sentence = f"{host} has no {repository} at {revision} for you (HTTP {status}). Check --repository, or set HF_TOKEN."
            raise EngineRefused(sentence) from error
        raise EngineUnavailable(f"{host} answered with HTTP {status}; {again}.") from error
    except (HTTPError, InvalidURL) as error:
        kind = type(error).__name__
        raise EngineUnavailable(f"The connection to {host} failed ({kind}); {again}, or give FROM=DIR.") from error
    except HFValidationError as error:
        raise EngineRefused(f"{repository} is not the name of a repository, such as {REPOSITORY}.") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise EngineRefused(f"{host} sent another number of bytes than it announced; {again}.") from error


def _host() -> str:
    return constants.ENDPOINT.rpartition("@")[2]
