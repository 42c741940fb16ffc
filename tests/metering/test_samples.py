"""The value of a sample record: everything in it comes back, and the format before it is still read."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.errors import DeadLetter
from metering.record import decode_batch, decode_samples
from metering.samples import (
    ExemplarRow,
    HistogramRow,
    LabelPage,
    Metadata,
    SampleColumns,
    decode_columns,
    encode_columns,
    make_page,
)

# Written by the release before format 2: up{job="a"} 1.5 at 1000 and up{job="b"} NaN at 2000.
ARROW = base64.b64decode(
    "/////xABAAAQAAAAAAAKAAwABgAFAAgACgAAAAABBAAEAAAAOP///wQAAAADAAAAlAAAAEgAAAAEAAAA0P///wAAAQMQAAAAHAAA"
    "AAQAAAAAAAAABQAAAHZhbHVlAAYACAAGAAYAAAAAAAIAEAAUAAgABgAHAAwAAAAQABAAAAAAAAECEAAAACAAAAAEAAAAAAAAAAwA"
    "AAB0aW1lc3RhbXBfbXMAAAAArP///wAAAAFAAAAAEAAYAAgABgAHAAwAEAAUABAAAAAAAAEEFAAAAEQAAAAgAAAABAAAAAAAAAAG"
    "AAAAc2VyaWVzAAAIAAgAAAAEAAgAAAAMAAAACAAMAAgABwAIAAAAAAAAASAAAAAEAAQABAAAAP/////AAAAAFAAAAAAAAAAMABgA"
    "BgAFAAgADAAMAAAAAAIEABgAAABQAAAAAAAAAAAAAAAIAAgAAAAEAAgAAAAQAAAADAAeABAABAAIAAwADAAAAGAAAAAkAAAAGAAA"
    "AAIAAAAAAAAAAAAAAAAABgAIAAcABgAAAAAAAAEDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAHQAAAAAAAAAgAAAAAAAAACsA"
    "AAAAAAAAAAAAAAEAAAACAAAAAAAAAAAAAAAAAAAADAAAAAAAAAAotS/9IAxhAAAAAAAAEgAAACQAAAAAAAAkAAAAAAAAACi1L/0g"
    "JNUAAKBfX25hbWVfX/91cP9qb2L/Yf9i/wEACplhAAAAAAD/////AAEAABQAAAAAAAAADAAYAAYABQAIAAwADAAAAAADBAAcAAAA"
    "cAAAAAAAAAAAAAAADAAeABAABAAIAAwADAAAAJAAAAAkAAAAGAAAAAIAAAAAAAAAAAAAAAAABgAIAAcABgAAAAAAAAEGAAAAAAAA"
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAGQAAAAAAAAAgAAAAAAAAAAAAAAAAAAAAIAAAAAAAAAAhAAAAAAAAAEgAAAAAAAAAAAAAAAAA"
    "AABIAAAAAAAAACEAAAAAAAAAAAAAAAMAAAACAAAAAAAAAAAAAAAAAAAAAgAAAAAAAAAAAAAAAAAAAAIAAAAAAAAAAAAAAAAAAAAI"
    "AAAAAAAAACi1L/0gCEEAAAAAAAABAAAAAAAAAAAAABAAAAAAAAAAKLUv/SAQgQAA6AMAAAAAAADQBwAAAAAAAAAAAAAAAAAQAAAA"
    "AAAAACi1L/0gEIEAAAAAAAAAAPg/AAAAAAAA+H8AAAAAAAAA/////wAAAAA="
)

label_sets = st.lists(st.binary(max_size=30), max_size=6)
int64 = st.integers(-(2**63), 2**63 - 1)


@st.composite
def columns(draw: st.DrawFn) -> SampleColumns:
    pages = tuple(make_page(draw(label_sets)) for _ in range(draw(st.integers(0, 3))))
    count = sum(page.count for page in pages)
    indices = st.integers(0, count - 1) if count else st.nothing()
    index = draw(st.lists(indices, max_size=10)) if count else []

    def column() -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.array(draw(st.lists(int64, min_size=len(index), max_size=len(index))), np.int64)

    histograms = st.lists(st.builds(HistogramRow, indices, st.binary(max_size=20)), max_size=3)
    exemplars = st.lists(
        st.builds(ExemplarRow, indices, st.floats(allow_nan=False), int64, st.binary()), max_size=3
    )
    return SampleColumns(
        pages,
        np.array(index, np.int32),
        column(),
        column().view(np.float64),
        column() if draw(st.booleans()) else None,
        tuple(draw(histograms)) if count else (),
        tuple(draw(exemplars)) if count else (),
        tuple(draw(st.lists(st.builds(Metadata, st.text(), st.text(), st.text(), st.text()), max_size=2))),
    )


@given(columns())
@settings(max_examples=100, deadline=None)
def test_columns_come_back_bit_for_bit(written: SampleColumns) -> None:
    back = decode_columns(encode_columns(written))
    assert back.pages == written.pages
    assert [page.labels() for page in back.pages] == [page.labels() for page in written.pages]
    assert back.series_index.tolist() == written.series_index.tolist()
    assert back.timestamps_ms.tolist() == written.timestamps_ms.tolist()
    assert back.values.tobytes() == written.values.tobytes()
    assert (back.starts_ms is None) == (written.starts_ms is None)
    if back.starts_ms is not None and written.starts_ms is not None:
        assert back.starts_ms.tolist() == written.starts_ms.tolist()
    assert back.histograms == written.histograms
    assert back.exemplars == written.exemplars
    assert back.metadata == written.metadata


def test_equal_labels_make_a_page_of_one_name() -> None:
    assert make_page([b"a", b"bc"]) == make_page([b"a", b"bc"])
    names = {make_page(labels).name for labels in ([b"a", b"bc"], [b"ab", b"c"], [b"bc", b"a"], [b"abc"], [])}
    assert len(names) == 5


def test_a_page_under_a_foreign_name_is_a_dead_letter() -> None:
    page = make_page([b"a", b"b"])
    for false in (
        LabelPage(bytes(16), 2, page.blob),
        LabelPage(page.name, 1, page.blob),
        LabelPage(page.name, 2, b"x"),
    ):
        with pytest.raises(DeadLetter):
            false.labels()


@pytest.mark.parametrize("index", [-1, 2])
def test_a_row_of_no_series_is_a_dead_letter(index: int) -> None:
    one = np.zeros(1, np.int64)
    value = encode_columns(
        SampleColumns((make_page([b"a", b"b"]),), np.array([index], np.int32), one, one.view("f8"))
    )
    with pytest.raises(DeadLetter, match="does not carry"):
        decode_columns(value)


def test_the_format_before_is_still_read() -> None:
    columns = decode_samples(ARROW)
    assert [page.labels() for page in columns.pages] == [
        [b"__name__\xffup\xffjob\xffa\xff", b"__name__\xffup\xffjob\xffb\xff"]
    ]
    assert (columns.series_index.tolist(), columns.timestamps_ms.tolist()) == ([0, 1], [1000, 2000])
    batch = decode_batch(ARROW)
    assert (batch.values[0], bool(np.isnan(batch.values[1]))) == (1.5, True)
