"""Values that are no finite numbers: spelled as Prometheus spells them, or the body is refused.

The reader of columns takes `nan(1)`, `-nan` and 1e400, which Prometheus refuses, and gives a NaN other bits.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from collector.exposition.lexing import NORMAL_NAN, parse_number

Bytes = npt.NDArray[np.uint8]
_SLICE = 1 << 18
_LOWER = 0x20  # set in a small letter of ASCII
_SPACE, _PLUS, _MINUS, _NEWLINE = 0x20, 0x2B, 0x2D, 0x0A


def check_not_finite(
    body: bytearray, end: int, values: npt.NDArray[np.float64], odd_numbers: list[int], blanks: bytes
) -> None:
    """Make every NaN of `values` the one that is stored, and look at how each NaN and infinity was written.

    `values` are those of the lines of body[:end] that are not empty and whose number, from 1, is not among
    `odd_numbers`. `blanks`: what may stand around a number. Raises SyntaxFault.
    """
    is_odd_value = ~np.isfinite(values)
    if not is_odd_value.any():
        return
    line_ends = _ends_of_lines(body, end)
    plain = np.ones(len(line_ends), np.bool_)
    plain[np.array(odd_numbers, np.int64) - 1] = False
    ends = line_ends[plain][is_odd_value]
    text = np.frombuffer(body, np.uint8, end)
    for at in ends[~_usual(text, ends)].tolist():
        line = bytes(body[body.rfind(b"\n", 0, at) + 1 : at])
        parse_number(line.rpartition(b" ")[2].strip(blanks))
    values[np.isnan(values)] = NORMAL_NAN


def _usual(text: Bytes, ends: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which lines end with a blank and NaN, or with a blank, maybe a sign, and Inf. The shortest is `a NaN`."""
    far = np.maximum(ends - 5, 0)
    last = [text[ends - back] | _LOWER for back in (3, 2, 1)]
    before, before_sign = text[ends - 4], text[far]
    is_nan = (last[0] == ord("n")) & (last[1] == ord("a")) & (last[2] == ord("n")) & (before == _SPACE)
    is_inf = (last[0] == ord("i")) & (last[1] == ord("n")) & (last[2] == ord("f"))
    is_signed = ((before == _PLUS) | (before == _MINUS)) & (before_sign == _SPACE)
    usual: npt.NDArray[np.bool_] = is_nan | (is_inf & ((before == _SPACE) | is_signed))
    return usual


def _ends_of_lines(body: bytearray, end: int) -> npt.NDArray[np.int64]:
    """Where each line of body[:end] that is not empty ends, its newline not included."""
    text = np.frombuffer(body, np.uint8, end)
    newlines = [
        np.flatnonzero(text[start : start + _SLICE] == _NEWLINE) + start for start in range(0, end, _SLICE)
    ]  # in slices that stay in the cache
    ends = np.concatenate([*newlines, np.array([end], np.int64)])
    lengths = np.diff(ends, prepend=-1) - 1
    return ends[lengths > 0]


def count_newlines(body: bytearray, end: int) -> int:
    """Of body[:end]."""
    text = np.frombuffer(body, np.uint8, end)
    return sum(int(np.count_nonzero(text[start : start + _SLICE] == _NEWLINE)) for start in range(0, end, _SLICE))
