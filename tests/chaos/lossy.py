"""A wire before PostgreSQL that can lose a COMMIT, or the answer to one: what is then committed nobody is told."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path

SOCKET = ".s.PGSQL.5432"
CHUNK_BYTES = 65_536


class Loss(Enum):
    """What goes lost of the next COMMIT."""

    REQUEST = "request"  # it never arrives
    ANSWER = "answer"  # it is done, and the answer does not arrive


class LossyWire:
    """Forwards connections from a socket in `folder` to PostgreSQL's; breaks those that meet a loss."""

    def __init__(self, folder: Path, server: Path) -> None:
        self.folder = folder
        self.losses: list[Loss] = []  # one for each COMMIT to come
        self.only = b""  # of connections that have sent this text
        self._server = server / SOCKET
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / SOCKET))
        self._listener.listen(64)
        threading.Thread(target=self._accept, name="lossy-wire", daemon=True).start()

    def close(self) -> None:
        """Idempotent. Connections that are open stay."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        with client, server, suppress(OSError):
            server.connect(str(self._server))
            answers = threading.Thread(target=self._pump, args=(server, client), daemon=True)
            answers.start()
            sent: set[bytes] = set()
            while chunk := client.recv(CHUNK_BYTES):
                sent.update(text for text in (self.only,) if text in chunk)
                loss = self._next_loss() if b"COMMIT" in chunk and self.only in sent else None
                if loss is Loss.ANSWER:
                    client.shutdown(socket.SHUT_WR)  # the answers' thread finds it shut, and nothing passes
                if loss is not Loss.REQUEST:
                    server.sendall(chunk)
                if loss is not None:
                    break
            with suppress(OSError):
                server.shutdown(socket.SHUT_WR)  # the server ends what it was asked, then closes
            answers.join()

    def _next_loss(self) -> Loss | None:
        with self._lock:
            return self.losses.pop(0) if self.losses else None

    @staticmethod
    def _pump(server: socket.socket, client: socket.socket) -> None:
        is_open = True
        with suppress(OSError):
            while chunk := server.recv(CHUNK_BYTES):
                try:
                    if is_open:
                        client.sendall(chunk)
                except OSError:
                    is_open = False  # read on to the end, so that the server is not disturbed
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)


@contextmanager
def lossy_wire(server: Path) -> Iterator[LossyWire]:
    """The folder's path is short: a socket's has 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="byoc-wire-") as name:
        wire = LossyWire(Path(name), server)
        try:
            yield wire
        finally:
            wire.close()
