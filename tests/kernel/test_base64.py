"""One spelling for each value."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.base64 import decode_base64


@given(st.binary(max_size=70))
def test_what_was_encoded_is_decoded(value: bytes) -> None:
    assert decode_base64(base64.b64encode(value).decode()) == value


@pytest.mark.parametrize("text", ["QR==", "QUJ=", "QQ", "QQ=", "Q===", "Q\nQ==", " QQ==", "Q-==", "QQ==x", "é"])
def test_another_spelling_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        decode_base64(text)
