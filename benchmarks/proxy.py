"""A wire tap: a TCP proxy on loopback that notes who hangs up when, and how many questions are under way at once.

Knows bytes, and HTTP just enough to see a POST begin and a chunked answer end. Does not know who talks or about what.
"""

import socket
import threading
import time
from contextlib import suppress


class Connection:
    """One connection of a client. `left_at` is when the client closed it on an unfinished answer, by `time.perf_counter`.

    `pieces` counts what the server has said since the last question, in packets.
    """

    def __init__(self) -> None:
        self.left_at = 0.0
        self.left = threading.Event()
        self.pieces = 0
        self.is_busy = False


class Proxy:
    """Passes everything to `port` until `close`. Clearing `flow` holds back what the server says."""

    def __init__(self, port: int) -> None:
        self.flow = threading.Event()
        self.flow.set()
        self.connections: list[Connection] = []
        self.most_at_once = 0
        self._port = port
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def busy(self) -> list[Connection]:
        """Connections with a question that is neither answered nor given up."""
        return [each for each in list(self.connections) if each.is_busy]

    def close(self) -> None:
        self.flow.set()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                connection = Connection()
                self.connections.append(connection)
                for work in (self._ask, self._answer):
                    threading.Thread(target=work, args=(connection, client, server), daemon=True).start()

    def _ask(self, connection: Connection, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 16):
                if data.startswith(b"POST "):
                    with self._lock:
                        connection.is_busy, connection.pieces = True, 0
                        self.most_at_once = max(self.most_at_once, len(self.busy))
                server.sendall(data)
        if connection.is_busy:
            connection.left_at, connection.is_busy = time.perf_counter(), False
            connection.left.set()
        _hang_up(server)

    def _answer(self, connection: Connection, client: socket.socket, server: socket.socket) -> None:
        tail = b""
        with suppress(OSError):
            while data := server.recv(1 << 16):
                self.flow.wait()
                connection.pieces += 1
                tail = (tail + data)[-5:]
                if tail == b"0\r\n\r\n":
                    connection.is_busy = False
                client.sendall(data)
            connection.is_busy = False  # not where sending failed: then the client has left, which `_ask` is about to see
        _hang_up(client)


def _hang_up(end: socket.socket) -> None:
    """For both directions, also where another thread is reading."""
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
