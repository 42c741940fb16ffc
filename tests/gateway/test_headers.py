"""The headers of a push, and snappy's."""

from __future__ import annotations

import cramjam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.wire.errors import BodyTooLarge, WireError
from collector.wire.headers import MAX_INTEGER, MAX_PART, PushHeaders, PushLane, parse_push_headers
from collector.wire.snappy import compress, declared_length, decompress

GOOD = {"X-Byoc-Epoch": "7", "X-Byoc-Sequence": "1", "X-Byoc-Part": "0", "X-Byoc-Lane": "billing"}

integers = st.integers(0, MAX_INTEGER)
pushes = st.builds(
    PushHeaders,
    epoch=integers,
    sequence=st.integers(1, MAX_INTEGER),
    lane=st.sampled_from(PushLane),
    part=st.integers(0, MAX_PART),
    complete_through_ms=st.none() | integers,
    previous=st.none() | st.tuples(integers, integers),
    resync=st.booleans(),
    refused_seen=st.none() | integers,
)


@given(pushes)
def test_headers_come_back_as_they_were(push: PushHeaders) -> None:
    assert parse_push_headers((name.lower(), value) for name, value in push.render().items()) == push


def test_a_foreign_sender_has_none() -> None:
    assert parse_push_headers([("Content-Type", "application/x-protobuf"), ("X-Other", "1")]) is None


def test_the_lane_that_older_collectors_name_is_billing() -> None:
    push = parse_push_headers({**GOOD, "X-Byoc-Lane": "live"}.items())
    assert push is not None
    assert push.lane is PushLane.BILLING


@pytest.mark.parametrize("missing", sorted(GOOD))
def test_half_marked_is_not_foreign(missing: str) -> None:
    with pytest.raises(WireError, match=missing):
        parse_push_headers((name, value) for name, value in GOOD.items() if name != missing)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Byoc-Epoch", "-1"),
        ("X-Byoc-Epoch", "01"),
        ("X-Byoc-Epoch", "+1"),
        ("X-Byoc-Epoch", "1_0"),
        ("X-Byoc-Epoch", "٣"),
        ("X-Byoc-Epoch", ""),
        ("X-Byoc-Epoch", str(2**63)),
        ("X-Byoc-Epoch", "9" * 5000),
        ("X-Byoc-Sequence", "0"),
        ("X-Byoc-Part", "1.0"),
        ("X-Byoc-Lane", "Live"),
        ("X-Byoc-Lane", "admin"),
        ("X-Byoc-Complete-Through", "soon"),
        ("X-Byoc-Previous", "7"),
        ("X-Byoc-Previous", "7.1.2"),
        ("X-Byoc-Resync", "0"),
        ("X-Byoc-Tenant", "other/prod"),
        ("X-Byoc-Refused-Seen", "-1"),
    ],
)
def test_a_bad_value_is_named(name: str, value: str) -> None:
    with pytest.raises(WireError, match=name):
        parse_push_headers({**GOOD, name: value}.items())


def test_a_header_sent_twice_is_refused() -> None:
    with pytest.raises(WireError, match="sent twice"):
        parse_push_headers([*GOOD.items(), ("x-byoc-epoch", "8")])


@given(st.binary(max_size=2000))
def test_snappy_comes_back(content: bytes) -> None:
    assert decompress(compress(content), 2000) == content
    assert declared_length(compress(content)) == len(content)


@given(st.binary(max_size=100))
@settings(max_examples=200)
def test_snappy_noise_is_refused_or_decompressed_within_the_limit(noise: bytes) -> None:
    try:
        assert len(decompress(noise, 1000)) <= 1000
    except WireError:
        return


def test_a_bomb_is_refused_by_what_it_declares() -> None:
    bomb = compress(bytes(50_000_000))
    assert len(bomb) < 3_000_000
    with pytest.raises(BodyTooLarge, match="50000000 bytes declared"):
        decompress(bomb, 32 * 1024 * 1024)


def test_the_framed_format_is_refused() -> None:
    with pytest.raises(WireError, match="not framed"):
        decompress(bytes(cramjam.snappy.compress(b"content" * 100)), 10_000_000)
