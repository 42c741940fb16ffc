"""The comment lines of a body: taken out before the columns are read, and read again only when they changed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Comments:
    """Lines that begin with #, without their ends, in their order, and where each block of them stood."""

    blocks: tuple[tuple[int, bytes], ...]

    def lines(self) -> list[bytes]:
        return self.text().split(b"\n") if self.blocks else []

    def text(self) -> bytes:
        return b"\n".join([block for _, block in self.blocks])

    def put_back(self, body: bytearray) -> None:
        """The inverse of `blank_comments`."""
        for at, block in self.blocks:
            body[at : at + len(block)] = block


def blank_comments(body: bytearray, end: int) -> Comments:
    """Overwrite the lines of body[:end] that begin with # by empty lines, which the reader of columns skips."""
    blocks: list[tuple[int, bytes]] = []
    at = body.find(b"#", 0, end)
    while at >= 0:
        if at and body[at - 1] != 10:  # in a label, or the start of an exemplar
            at = body.find(b"#", at + 1, end)
            continue
        last = at
        while True:
            last = body.find(b"\n", last, end)
            if last < 0:
                last = end
                break
            if body[last + 1 : last + 2] != b"#" or last + 1 >= end:
                break
            last += 1
        blocks.append((at, bytes(body[at:last])))
        body[at:last] = b"\n" * (last - at)
        at = body.find(b"#", last, end)
    return Comments(tuple(blocks))
