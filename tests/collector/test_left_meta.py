"""What the ledger needs to know of a frame comes back as it was written, and so does what older frames hold."""

from __future__ import annotations

import json

import cramjam
from hypothesis import given
from hypothesis import strategies as st

from collector.left_meta import FrameMeta, parse_meta


def test_frames_of_before_say_the_same_of_new_series() -> None:
    new = [("m", 'm{a="1"}'), ("m", "m_sum"), ("other", 'other{n="x\\\\ny"}')]
    text = json.dumps({"f": {"m": [1, 2]}, "n": new, "t": "tag"})
    before = bytes(cramjam.snappy.compress_raw(text.encode()))
    assert parse_meta(before) == parse_meta(FrameMeta({"m": (1, 2)}, new, "tag").render())


names = st.lists(st.tuples(st.sampled_from("abc"), st.text('x\n\u2028\r é"{}', max_size=4)), max_size=9)


@given(names)
def test_new_series_are_read_as_they_were_written(new: list[tuple[str, str]]) -> None:
    read = parse_meta(FrameMeta({"m": (1, 2)}, new).render())
    assert sorted(read.new) == sorted(new)
    assert read.families == {"m": (1, 2)}
