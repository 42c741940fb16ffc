"""Memory of bodies, used again."""

from __future__ import annotations

from dataclasses import dataclass, field

LARGE_BYTES = 1 << 20  # bodies below are made anew each time


@dataclass(slots=True)
class Bodies:
    """Memory of large bodies that are done with, for the next ones."""

    free: list[bytearray] = field(default_factory=list)

    def take(self, size: int) -> bytearray:
        """A body of this length; what is in it is of no meaning."""
        if size < LARGE_BYTES or not self.free:
            return bytearray(size)
        body = self.free.pop()
        try:
            if len(body) > size:
                del body[size:]
            else:
                body += bytes(size - len(body))
        except BufferError:  # someone looks into it still
            return bytearray(size)
        return body

    def give(self, body: bytearray) -> None:
        """No one uses this body any more."""
        if len(body) >= LARGE_BYTES and len(self.free) < 2:
            self.free.append(body)
