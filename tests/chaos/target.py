"""A target that remembers every page it handed out, so that nobody need believe anybody's counters."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from kernel.clock import Clock, SystemClock

Labels = tuple[tuple[str, str], ...]  # sorted, __name__ among them
PAGE = "chaos_page"


@dataclass(frozen=True, slots=True)
class Page:
    """One page as it was handed out; `number` counts from 1 and is the value of `chaos_page`."""

    instance: str
    number: int
    served_ms: int
    samples: Mapping[Labels, float]

    def render(self) -> bytes:
        """Text format 0.0.4."""
        return "".join(_line(labels, value) for labels, value in self.samples.items()).encode()


def make_page(instance: str, number: int, served_ms: int) -> Page:
    """Values that no other page has, some of them hard to carry, and a series that is new every third page."""
    samples: dict[Labels, float] = {_named(PAGE): float(number)}
    for lane in range(8):
        samples[_named("chaos_level", lane=str(lane))] = number * 0.1 + lane
    samples[_named("chaos_total")] = 2.0**53 - number
    samples[_named("chaos_debt")] = -1.0 / number
    samples[_named("chaos_tiny")] = number * 5e-324
    samples[_named("chaos_nothing")] = -0.0
    samples[_named("chaos_limit")] = float("inf")
    samples[_named("chaos_generation", of=str(number // 3), name='a "quoted" ü')] = float(number)
    return Page(instance, number, served_ms, samples)


class Target:
    """An HTTP server on a free loopback port; every GET is another page, unless who asked has hung up by then.

    So pages are numbered in the order of the scrapes: a handler that comes late makes none after the next one's.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.pages: list[Page] = []
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.instance = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="target", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop. The pages stay."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _next(self, connection: socket.socket) -> Page | None:
        with self._lock:
            if _is_gone(connection):
                return None
            page = make_page(self.instance, len(self.pages) + 1, self._clock.now_ms())
            self.pages.append(page)
            return page

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        target = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = target._next(self.connection)
                if page is None:
                    self.close_connection = True
                    return
                body = page.render()
                with suppress(OSError):  # the scraper was killed
                    self.send_response(200)
                    self.send_header("Content-Type", "text/plain; version=0.0.4")
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        return Handler


def _is_gone(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _named(name: str, /, **labels: str) -> Labels:
    return tuple(sorted({"__name__": name, **labels}.items()))


def _line(labels: Labels, value: float) -> str:
    named = dict(labels)
    name = named.pop("__name__")
    inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in named.items())
    shown = "+Inf" if value == float("inf") else repr(value)
    return f"{name}{{{inner}}} {shown}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
