"""What others wrote, as it is shown: nothing of it steers, turns, hides or breaks anything."""

from __future__ import annotations

import json
import logging
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starburst_common import phrases

anything = st.text(
    st.one_of(
        st.characters(codec=None, exclude_categories=()),
        st.sampled_from("\x1b\x9b\n\r\t\x85\u2028\u202e\u2066\u200b\u200d\ufeff\udcff\U000e0041a|`<é"),
    )
)


def hidden(text: str) -> list[str]:
    """The characters of it that a terminal does not show as themselves; joiners where letters need them are fine."""
    return [each for each in text if unicodedata.category(each) in ("Cc", "Cf", "Cs", "Zl", "Zp") and each not in "‌‍"]


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
