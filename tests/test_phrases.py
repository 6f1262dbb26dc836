"""What others wrote, as it is shown: nothing of it steers, turns, hides or breaks anything."""

from __future__ import annotations

import json
import logging
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_starburst.home import summary
from starburst_common import Failure, FailureKind, RunState, RunStatus, phrases
from starburst_common.model import RunId

#: Of the category of what formats, but signs that are seen: Arabic, Syriac and Kaithi.
SIGNS = "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
anything = st.text(
    st.one_of(
        st.characters(codec=None, exclude_categories=()),
        st.sampled_from("\x1b\x9b\n\r\t\x85\u2028\u202e\u2066\u200b\u200d\ufeff\udcff\U000e0041a|`<é"),
    )
)


def hidden(text: str) -> list[str]:
    """The characters of it that a terminal does not show as themselves; joiners where letters need them are fine."""
    kinds = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return [each for each in text if unicodedata.category(each) in kinds and each not in f"‌‍{SIGNS}"]


@given(anything)
def test_a_line_is_a_line(text: str) -> None:
    """Whatever is in it, one line shows it, and can be written to any stream."""
    for line in (phrases.visible(text), phrases.one_line(text), phrases.told(text), phrases.markdown(text)):
        assert not hidden(line)
        assert line.encode().decode() == line


@given(anything)
def test_lines_and_tabs_stay(text: str) -> None:
    """Of a traceback or a log nothing else does."""
    assert set(hidden(phrases.visible_lines(text))) <= {"\n", "\t"}


@given(anything)
def test_escaped_json_is_the_same_document(text: str) -> None:
    """A reader gets what was there, and a terminal shows it."""
    document = phrases.json_escaped(json.dumps({"text": text}, ensure_ascii=False))
    assert not hidden(document)
    assert json.loads(document) == json.loads(json.dumps({"text": text}))


@pytest.mark.parametrize(
    "text", ["naïve", "日本語 한국어", "👩\u200d💻", "می\u200cخواهم", "क्\u200dष", "a\u00a0b", "C:\\n"]
)
def test_what_hides_nothing_is_shown_as_it_is(text: str) -> None:
    """In whatever script."""
    assert phrases.visible(text) == text


@given(st.text(), st.integers(50, 200))
def test_what_is_cut_is_as_long_as_it_may_be(text: str, most: int) -> None:
    """And says that it is cut."""
    cut = phrases.shortened(text, most)
    assert len(cut) <= most
    assert cut == text or "characters left out" in cut
    assert len(phrases.one_line(text * 10, most)) <= most


def test_a_value_that_cannot_be_shown_is_named() -> None:
    """A message never fails for the value that it tells of."""

    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError

    assert phrases.told(Odd()) == "a Odd"


HTTPS = "https://host/simple"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"{HTTPS}?token=secret", HTTPS),
        (f"{HTTPS}?a=1&API_KEY=secret&b=2#sha256=1", f"{HTTPS}?a=1&b=2#sha256=1"),
        (f"{HTTPS}?sv=1;sig=secret", f"{HTTPS}?sv=1"),
        (f"{HTTPS}?X-Amz-Date=1&X-Amz-Signature=secret&X-Amz-Credential=secret", f"{HTTPS}?X-Amz-Date=1"),
        (f"{HTTPS}?secretsecretsecret", HTTPS),
        (f"`{HTTPS}?access_token=secret`: 403", f"`{HTTPS}`: 403"),
        (f"{HTTPS}?password=secret,{HTTPS}?raw", f"{HTTPS},{HTTPS}?raw"),
        ("git+https://me:secret@host/x@main?job-token=secret", "git+https://host/x@main"),
        (f"{HTTPS}?ref=main&author=me&design=2", f"{HTTPS}?ref=main&author=me&design=2"),
        ("what? key=1 and http://x", "what? key=1 and http://x"),
    ],
)
def test_addresses_show_no_secrets(text: str, shown: str) -> None:
    """Neither a user part's nor a query's; the rest of an address stays as it is."""
    assert phrases.without_credentials(text) == shown


def test_our_log_is_fit_for_any_handler(caplog: pytest.LogCaptureFixture) -> None:
    """What a worker printed last, or a service answered, is escaped whoever prints the record."""
    log = phrases.our_log("starburst.test")
    log.warning("worker %s said: %s", "w", "\x1b]0;owned\x07\nline")
    log.warning("\x1b[2J")
    try:
        raise ValueError("\x1b[31m")
    except ValueError:
        log.exception("failed: %s", ValueError("\u202e"))
    assert "said: \\x1b]0;owned\\x07\nline" in caplog.text and "failed: \\u202e" in caplog.text
    assert set(hidden(caplog.text)) == {"\n"}
    assert all(record.levelno >= logging.WARNING for record in caplog.records)


def test_artifacts_show_what_others_wrote_as_text() -> None:
    """A failure, a function's name and a reason make no table, link, image or HTML in Prefect."""
    evil = "a|b\n<img src=x> [x](y) `c` **d** \x1b[2J\u202e" + "e" * 5000
    status = RunStatus(
        id=RunId("run-1"), state=RunState.STOPPED, label=evil, items=2, answered=1, failed=1, workers=0,
        created_at=0.0, ended_at=1.0, slot_seconds=1.0, reason=evil,
    )  # fmt: skip
    text = summary.progress_text(status, 2, f"burst of {phrases.code(evil, 50)}")
    assert not hidden(text) and len(text) < 1000
    assert r"\<img" in text and r"\[x\](y)" in text and r"a\|b" in text
    failure = Failure(index=0, kind=FailureKind.USER, error=evil, message=evil, traceback="", worker="", exception=None)
    (row,) = summary.failure_rows([failure])
    assert not hidden(json.dumps(row, ensure_ascii=False))
    assert all(
        len(row[name]) <= 400 and r"\<img" in row[name] and r"\[x\](y)" in row[name] for name in ("message", "error")
    )
