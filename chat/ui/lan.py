"""What lets others in: the port, the accounts, the certificate, the names of this place, and how often a password may be tried.

Knows sockets, files, TLS and counting. Does not know HTTP or the page.
"""

import errno
import os
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path

from pydantic import SecretStr

from chat.settings import SettingsError, flag, variable

SHORTEST_PASSWORD = 12
MOST_WRONG = 5
"""Wrong passwords from one address within the window; a person mistypes, a program guesses."""

MOST_WRONG_IN_ALL = 50
WINDOW_SECONDS = 15 * 60


@dataclass(frozen=True)
class Access:
    """Who may come in, and under which names. By default everybody on this machine, by its loopback names alone."""

    hosts: frozenset[str] = frozenset()
    accounts: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    certificate: str | None = None
    key: str | None = None
    is_contained: bool = False


def open_access(
    hosts: str, login: SecretStr | None, file: Path | None, certificate: Path | None, key: Path | None, is_contained: bool
) -> Access:
    """What the settings ask for, read and tried out. Raises SettingsError."""
    names = frozenset(name.strip("[]").lower() for name in hosts.replace(",", " ").split())
    accounts = _accounts(login, file, is_contained)
    if certificate or key:
        _try_out(certificate, key)
    return Access(names, accounts, str(certificate) if certificate else None, str(key) if key else None, is_contained)


def check_port(host: str, port: int) -> None:
    """Before anything large is loaded. Raises SettingsError where nobody can listen there."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), port))
        except PermissionError:
            raise SettingsError(
                f"port {port} needs more rights than this user has; choose one above 1023 with {flag('port')}."
            ) from None
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise SettingsError(f"{flag('host')}={host} is not an address of this machine: {error.strerror}.") from None
            raise SettingsError(
                f"port {port} is in use by another program; stop that one, or choose another with {flag('port')}."
            ) from None


def _accounts(login: SecretStr | None, file: Path | None, is_contained: bool) -> tuple[tuple[str, str], ...]:
    """Every user and password. They come from the environment or a file: a command line can be read by every program."""
    lines = [(variable("login"), login.get_secret_value())] if login else []
    if file:
        shown = f"{flag('login_file')}={file}"
        try:
            if os.name == "posix" and file.stat().st_mode & 0o077 and not is_contained:
                raise SettingsError(f"{shown} cannot be used: others can read it; run chmod 600 on it.")
            lines += [(shown, line) for line in file.read_text("utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
            raise SettingsError(f"{shown} cannot be read: {reason}.") from None
        if len(lines) == bool(login):
            raise SettingsError(f"{shown} is empty; write a user:password on each line.")
    accounts: dict[str, str] = {}
    for source, line in lines:
        user, colon, password = line.partition(":")
        if not colon or not user.strip() or len(password) < SHORTEST_PASSWORD:
            raise SettingsError(
                f"{source} needs user:password on each line, the password of at least {SHORTEST_PASSWORD} characters."
            )
        accounts[user.strip()] = password
    return tuple(accounts.items())


def _try_out(certificate: Path | None, key: Path | None) -> None:
    both = f"{flag('tls_certificate')}={certificate} and {flag('tls_key')}={key}"
    if not (certificate and key):
        raise SettingsError(f"{both} cannot be used: give both files.")
    try:
        # A passphrase would be asked for on the terminal, where nobody may sit.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ValueError):
        raise SettingsError(
            f"{both} cannot be used: they must be readable PEM files that belong together, the key without a passphrase."
        ) from None


class Attempts:
    """Tries of a password that were not right, of the last 15 minutes, by address and in all.

    A try counts from its beginning, so that many at the same time do not slip through together; a right one is taken back.
    What is held is bounded by the limit. IPv6 counts by /64, which is what one household or machine has to itself.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tries: deque[tuple[float, str]] = deque()

    def begin(self, address: str) -> bool:
        """Whether this address may try now; if so, it has."""
        now, place = self._clock(), _place(address)
        while self._tries and self._tries[0][0] <= now - WINDOW_SECONDS:
            self._tries.popleft()
        from_there = sum(where == place for _, where in self._tries)
        if from_there >= MOST_WRONG or len(self._tries) >= MOST_WRONG_IN_ALL:
            return False
        self._tries.append((now, place))
        return True

    def take_back(self, address: str) -> None:
        """The last try from there was not wrong."""
        place = _place(address)
        for index in range(len(self._tries) - 1, -1, -1):
            if self._tries[index][1] == place:
                del self._tries[index]
                return


def _place(address: str) -> str:
    try:
        return str(ip_network((address, 64), strict=False)) if ip_address(address).version == 6 else address
    except ValueError:
        return address
