"""Canaries: bytes that exist nowhere else, pictures that they are planted in, and the search of a machine for them.

Knows file formats, mounts, files and what strace writes. Does not know how Hilum is started or ended.
"""

import base64
import contextlib
import io
import os
import re
import secrets
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from chat.ui.vault import file_system
from finetune.phantom import draw_phantom

VIRTUAL = ("proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "debugfs", "tracefs", "securityfs", "bpf", "pstore")


@dataclass(frozen=True)
class Case:
    """One ending. `way` is how picture and question came: browser, api, paste or dicom; `run` twelve characters of chance."""

    signal: str
    phase: str
    way: str
    number: int
    run: str

    def canary(self, kind: str) -> str:
        """32 characters: whose run, which case, what it was planted in, and chance."""
        head = f"{self.run}{self.number:02x}{kind}"
        return head + secrets.token_hex(16)[: 32 - len(head)]


def film(case: Case, width: int = 0) -> bytes:
    """A grey picture that a report can be written about, uncompressed, with canaries in a tag and in a row of pixels."""
    image = draw_phantom(np.random.default_rng(case.number)).image.convert("L")
    pixels = np.array(image.resize((width, width)) if width else image)
    pixels[2, :32] = np.frombuffer(case.canary("p").encode(), np.uint8)
    if case.way == "dicom":
        return _dicom(case.canary("d"), pixels)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "TIFF", tiffinfo={270: case.canary("e")})
    return data.getvalue()


def _dicom(name: str, pixels: np.ndarray) -> bytes:
    """A computed radiograph of a patient of that name (PS3.5, explicit VR, little endian)."""

    def element(group: int, number: int, kind: str, value: bytes) -> bytes:
        value += (b"\0" if kind in ("UI", "OB") else b" ") * (len(value) % 2)
        long = kind == "OB"
        return struct.pack("<HH2s", group, number, kind.encode()) + struct.pack("<xxI" if long else "<H", len(value)) + value

    image, rows, columns = b"1.2.840.10008.5.1.4.1.1.1", *pixels.shape
    meta = element(2, 1, "OB", b"\0\1") + element(2, 2, "UI", image) + element(2, 3, "UI", b"1.2.3")
    meta += element(2, 0x10, "UI", b"1.2.840.10008.1.2.1")
    numbers = {2: 1, 0x10: rows, 0x11: columns, 0x100: 8, 0x101: 8, 0x102: 7, 0x103: 0}
    shape = {n: element(0x28, n, "US", struct.pack("<H", value)) for n, value in numbers.items()}
    shape[4] = element(0x28, 4, "CS", b"MONOCHROME2")
    body = element(8, 0x16, "UI", image) + element(8, 0x60, "CS", b"CR") + element(0x10, 0x10, "PN", name.encode())
    body += b"".join(shape[n] for n in sorted(shape)) + element(0x7FE0, 0x10, "OB", pixels.tobytes())
    return bytes(128) + b"DICM" + element(2, 0, "UL", struct.pack("<I", len(meta))) + meta + body


def forms(run: str) -> re.Pattern[bytes]:
    """What a canary of this run looks like: as it is, in UTF-16, as grey pixels in RGB, in base64 at each offset."""
    raw = run.encode()
    coded = [base64.b64encode(bytes(shift) + raw)[-(-shift * 4 // 3) :][: (len(raw) * 8 - 6) // 6 - 1] for shift in range(3)]
    looks = [raw, run.encode("utf-16-le"), b"".join(bytes([byte]) * 3 for byte in raw), *coded]
    return re.compile(b"|".join(map(re.escape, looks)))


def mounts() -> list[Path]:
    """Every mounted file system that can be written to and holds files."""
    lines = [line.split() for line in Path("/proc/mounts").read_text("utf-8").splitlines()]
    places = {Path(place) for _, place, kind, options, *_ in lines if kind not in VIRTUAL and "rw" in options.split(",")}
    return sorted(place for place in places if os.access(place, os.W_OK) and file_system(place) not in VIRTUAL)


def search(places: list[Path], since: float, look: re.Pattern[bytes]) -> tuple[list[str], int]:
    """The files below `places`, each on its own file system, changed since then, that hold a canary; and how many were read."""
    found, read = [], 0
    for place in places:
        device = place.stat().st_dev
        for folder, folders, files in os.walk(place):
            folders[:] = [name for name in folders if _is_on(Path(folder, name), device)]
            if look.search(os.fsencode(folder)):
                found.append(folder)
            for name in files:
                path = Path(folder, name)
                with contextlib.suppress(OSError):
                    facts = path.lstat()
                    if facts.st_ctime < since or not path.is_file() or path.is_symlink():
                        continue
                    read += 1
                    hits = len(look.findall(path.read_bytes())) if facts.st_size < 2 << 30 else 0
                    found += [str(path)] * (hits + len(look.findall(os.fsencode(name))))
    return found, read


def _is_on(folder: Path, device: int) -> bool:
    with contextlib.suppress(OSError):
        return folder.lstat().st_dev == device
    return False


def written(trace: Path, vault: str) -> set[str]:
    """The paths outside the vault that strace saw a process and its children open for writing, make or rename."""
    found = set()
    for line in trace.read_text("utf-8", "replace").splitlines():
        call = re.search(r'^\d+ +(\w+)\((?:AT_FDCWD, |\d+, )?"([^"]+)"(.*)', line)
        if call and " = -1 " not in line and (not call[1].startswith("open") or re.search("O_(WRONLY|RDWR|CREAT)", call[3])):
            found.add("" if call[2].startswith(vault) else re.sub(r"sem\.\w+$", "sem.*", call[2]))
    return {path for path in found if path and path not in ("/dev/null", "/dev/tty") and not path.startswith("/proc/")}
