"""No secret reaches a log line, and no foreign text fills the disk."""

import io
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.logs import Repeats, configure_logs, logger, redact

SECRET = "hunter2-hunter2"
NAMES = ["token", "enrolment_token", "db_password", "Authorization", "api_key", "apikey", "client_secret", "cookie"]


def logged(**event: object) -> str:
    return json.dumps(redact(None, "info", dict(event)), default=repr)


@given(st.sampled_from(NAMES), st.integers(0, 4))
def test_a_field_whose_name_says_secret_is_hidden_at_any_depth(name: str, depth: int) -> None:
    value: object = {name: SECRET}
    for _ in range(depth):
        value = {"inner": [value]}
    assert SECRET not in logged(settings=value, **{name: SECRET})


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql+psycopg://byoc:{SECRET}@db/byoc",
        f"could not reach http://:{SECRET}@proxy:3128/ at all",
        f"a://b:{SECRET}@c and d://e:{SECRET}@f",
    ],
)
def test_a_password_in_a_url_is_hidden(text: str) -> None:
    assert SECRET not in logged(event=text, urls=[text], exception=f"Traceback\n  {text}")
    assert "@" in logged(event=text)


def test_text_is_bounded_and_printable() -> None:
    line = logged(event="\x1b[31m" + "x" * 100_000, body=["y" * 100_000] * 1000, deep=[[[[[[["z"]]]]]]])
    assert len(line) < 250_000
    assert "\\u001b" not in line


def test_a_line_is_json_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs()
    logger("gateway").info("batch_appended", samples=12, token=SECRET)
    logger("gateway").debug("not at this level")
    try:
        raise ValueError("a thing")
    except ValueError:
        logger("gateway").exception("failed")
    captured = capsys.readouterr()
    first, second = (json.loads(line) for line in captured.err.splitlines())
    assert captured.out == ""
    assert (first["event"], first["component"], first["samples"]) == ("batch_appended", "gateway", 12)
    assert first["token"] == "***"
    assert "ValueError: a thing" in second["exception"]
    assert "\n" in second["exception"]


def test_a_library_that_repeats_itself_is_heard_once_in_ten_seconds_with_a_count() -> None:
    repeats, heard = Repeats(), []
    for second in (0, 1, 9, 10, 11, 25):
        for name in ("broker", "database"):
            record = logging.LogRecord(name, logging.ERROR, "", 0, "no %s", ("answer",), None)
            record.created = 1000.0 + second
            if repeats.filter(record):
                heard.append((second, name, record.getMessage()))
    assert [line for line in heard if line[1] == "broker"] == [
        (0, "broker", "no answer"),
        (10, "broker", "no answer (and 2 times more)"),
        (25, "broker", "no answer (and 1 times more)"),
    ]
    assert len(heard) == 6
    for number in range(5000):  # what it remembers is bounded
        repeats.filter(logging.LogRecord(f"logger-{number}", logging.ERROR, "", 0, "x", (), None))
    assert len(repeats._said) <= 1000


def test_a_standard_error_that_is_closed_ends_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    configure_logs()
    monkeypatch.setattr("sys.stderr", closed)
    logger("spool").warning("frames_dropped")
    logging.getLogger("aiokafka").warning("away")
