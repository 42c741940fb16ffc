"""Gap notices: the bytes of docs/wire.md, and what is none."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.wire.errors import WireError
from collector.wire.gaps import MAX_NOTICE_BYTES, MAX_RUNS, GapReason, GapRun, parse_notice, render_notice

PAGE = (Path(__file__).parents[2] / "docs" / "wire.md").read_text(encoding="utf-8")
EXAMPLE = [GapRun(3, 7, GapReason.QUOTA, 1200), GapRun(9, 9, GapReason.DAMAGE)]
RUNS = st.builds(
    lambda first, more, reason, samples: GapRun(first, first + more, reason, samples),
    *(st.integers(1, 2**40), st.integers(0, 2**40), st.sampled_from(GapReason), st.none() | st.integers(0, 2**40)),
)


def test_the_page_shows_the_bytes() -> None:
    body = render_notice(EXAMPLE)
    assert body.decode() in PAGE
    assert sha256(body).hexdigest() in PAGE
    for reason in GapReason:
        assert f"`{reason.value}`" in PAGE


@given(st.lists(RUNS, min_size=1, max_size=20))
def test_a_notice_comes_back_as_it_was(runs: list[GapRun]) -> None:
    assert list(parse_notice(render_notice(runs))) == runs


def test_the_longest_notice_is_within_the_limit() -> None:
    longest = [GapRun(10**15, 10**15 + 10**6, GapReason.REFUSED, 10**9)] * MAX_RUNS
    assert len(render_notice(longest)) < MAX_NOTICE_BYTES


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"[" * 60_000,
        b'{"gaps":[[1,1,"quota",1]],"v":2}',
        b'{"gaps":[[1,1,"quota",1]],"v":1,"more":1}',
        b'{"gaps":[],"v":1}',
        b'{"gaps":{},"v":1}',
        b'{"gaps":[[0,1,"quota",1]],"v":1}',
        b'{"gaps":[[2,1,"quota",1]],"v":1}',
        b'{"gaps":[[1,9223372036854775808,"quota",1]],"v":1}',
        b'{"gaps":[[1,true,"quota",1]],"v":1}',
        b'{"gaps":[[1,1.5,"quota",1]],"v":1}',
        b'{"gaps":[[1,1,"acme_secret","quota"]],"v":1}',
        b'{"gaps":[[1,1,"quota",-1]],"v":1}',
        b'{"gaps":[[1,1,"quota"]],"v":1}',
        json.dumps({"v": 1, "gaps": [[1, 1, "quota", 1]] * (MAX_RUNS + 1)}).encode(),
    ],
)
def test_what_is_no_notice_is_refused(body: bytes) -> None:
    with pytest.raises(WireError, match="gap notice"):
        parse_notice(body)
