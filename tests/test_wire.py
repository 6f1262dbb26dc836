"""Values come back as they went, and nothing that is not ours is ever unpickled."""

from __future__ import annotations

import hmac
import json
import pickle
import random
import struct
from array import array
from base64 import b64decode, b64encode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from starburst_common.errors import Refused, UnknownVersion
from starburst_common.model import Batch, Chunk, Failure, FailureKind, Outcome, PackRef, RunId, Span, without
from starburst_common.names import RunNames
from starburst_common.runs.inputs import PlannedChunks
from starburst_common.runs.messages import NOTICE_BYTES, chunk_message, notice_message, read_chunk_message, read_notice
from starburst_common.runs.outcomes import Summary, outcome_parts, read_outcome, read_summary, summary_nbytes
from starburst_common.runs.spec import read_end, read_spec
from starburst_common.runs.tally import Tally
from starburst_common.wire import seals
from starburst_common.wire.documents import document, open_message, read_document, seal_message
from starburst_common.wire.fields import chunk_fields
from starburst_common.wire.frames import Frame, FrameWriter
from starburst_common.wire.items import Frames, checked_frames, item_parts
from starburst_common.wire.seals import seal, unseal
from starburst_worker.fetched import Fetched
from starburst_worker.known import KnownRuns

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
RUN, FLEET = "run-1", "fleet-1"

atoms = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text()
    | st.binary()
    | st.dates()
    | st.decimals(allow_nan=False)
)
values = st.recursive(
    atoms,
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=12,
)
arrays = npst.arrays(
    dtype=npst.scalar_dtypes() | npst.unicode_string_dtypes() | npst.byte_string_dtypes(),
    shape=npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
)


class Bomb:
    """Unpickling one is seen in `went_off`."""

    went_off = 0

    def __reduce__(self) -> tuple[Callable[[], Any], tuple[()]]:
        return _explode, ()


def _explode() -> Bomb:
    Bomb.went_off += 1
    return Bomb()


@pytest.fixture(autouse=True)
def no_bomb_goes_off() -> Any:
    """In no test here; the one that proves bombs to be live puts the count back."""
    Bomb.went_off = 0
    yield
    assert Bomb.went_off == 0


def frame_of(*items: Any) -> bytes:
    """Values as a frame."""
    writer = FrameWriter()
    for item in items:
        writer.add(item)
    assert len(writer) == len(items)
    return b"".join(writer.parts())


def there_and_back(*items: Any) -> list[Any]:
    """Values through a frame; by iterating and by index they are the same objects' worth."""
    frame = Frame(frame_of(*items))
    assert len(frame) == len(items)
    return list(frame)


# --- values there and back --------------------------------------------------------------------------------------------


@given(st.lists(values, max_size=8))
def test_values_come_back_equal(items: list[Any]) -> None:
    """Whatever they are, in the order in which they were added, all at once or by index."""
    assert there_and_back(*items) == items
    frame = Frame(frame_of(*items))
    assert [frame[at] for at in reversed(range(len(items)))] == items[::-1]


@given(st.lists(arrays, min_size=1, max_size=4))
def test_arrays_come_back_equal_and_writable(items: list[np.ndarray]) -> None:
    """Any dtype and shape, empty ones too, in C or Fortran order: as numpy itself would pickle them."""
    both = [*items, *(np.asfortranarray(item) for item in items)]
    for got, sent in zip(there_and_back(*both), both, strict=True):
        reference = pickle.loads(pickle.dumps(sent, 5))
        assert (got.dtype, got.shape, got.flags.f_contiguous) == (reference.dtype, sent.shape, sent.flags.f_contiguous)
        np.testing.assert_array_equal(got, sent)
        assert got.flags.writeable


@given(st.lists(st.integers(0, 3), max_size=10))
def test_small_and_large_values_mix(kinds: list[int]) -> None:
    """Values with no, one and several buffers in one frame do not take each other's."""
    make = [
        lambda at: at,
        lambda at: np.full(10, at),
        lambda at: {"a": np.full(5, at), "b": [np.full(7, -at)], "c": str(at)},
        lambda at: (np.arange(0), np.arange(at)),
    ]
    sent = [make[kind](at) for at, kind in enumerate(kinds)]
    assert repr(there_and_back(*sent)) == repr(sent)


def buffers_and_stream(value: Any) -> tuple[list[bytes], bytes]:
    """What of a value lies out of band, and its pickle stream."""
    _, (_, _, stream, *buffers) = read_document(frame_of(value))
    return [bytes(buffer) for buffer in buffers], bytes(stream)


def test_large_buffers_stay_out_of_the_pickle() -> None:
    """numpy, pandas and Arrow data lie beside the pickle stream, which stays small and does not hold them."""
    numbers = np.random.default_rng(1).random(50_000)
    for value in (
        numbers,
        {"deep": [numbers]},
        pd.DataFrame({"a": numbers}),
        pd.Series(numbers),
        pa.table({"a": pa.array(numbers)}),
        pa.py_buffer(numbers.tobytes()),
        pickle.PickleBuffer(numbers),
    ):
        buffers, stream = buffers_and_stream(value)
        assert any(numbers.tobytes() in buffer for buffer in buffers), type(value)
        assert len(stream) < 5000, type(value)
        assert numbers.tobytes()[:64] not in stream, type(value)


def test_frames_of_plain_values_carry_no_buffer_table() -> None:
    """A million integers cost nothing for a feature they do not use."""
    _, (_, _, counts, _, *buffers) = read_document(frame_of(*range(100)))
    assert len(counts) == 0
    assert buffers == []


def test_data_frames_come_back_equal_and_writable() -> None:
    """With their index, dtypes, categories, missing values and time zones; their columns can be assigned to."""
    frame = pd.DataFrame(
        {
            "int": [1, 2, 3],
            "float": [0.5, np.nan, -1.0],
            "text": ["a", "ß", ""],
            "when": pd.date_range("2026-01-01", periods=3, tz="Europe/Berlin"),
            "kind": pd.Categorical(["x", "y", "x"]),
            "maybe": pd.array([1, None, 3], dtype="Int64"),
        },
        index=pd.MultiIndex.from_tuples([(1, "a"), (1, "b"), (2, "a")]),
    )
    (got,) = there_and_back(frame)
    pd.testing.assert_frame_equal(got, frame)
    got.loc[(1, "a"), "float"] = 9.0
    got["int"] += 1
    got["int"].to_numpy(copy=True)[0] = 5
    assert frame["int"].tolist() == [1, 2, 3]


def test_arrow_tables_come_back_equal() -> None:
    """Chunked, sliced and with nested types."""
    table = pa.table({"a": pa.chunked_array([[1, 2], [3]]), "b": [[1], [], None], "c": ["x", None, "z"]})
    assert there_and_back(table, table.slice(1)) == [table, table.slice(1)]


def test_a_value_is_as_it_was_when_it_was_added() -> None:
    """A producer that fills the same array, list or frame again and again sends every filling, not the last one."""
    array, small, table = np.zeros(1000), [0], pd.DataFrame({"a": np.zeros(1000)})
    writer = FrameWriter()
    for number in range(3):
        array[:] = number
        small[0] = number
        table.loc[:, "a"] = float(number)
        for value in (array, small, table):
            writer.add(value)
    array[:] = -1
    got = list(Frame(b"".join(writer.parts())))
    assert [int(value[0]) for value in got[0::3]] == [0, 1, 2]
    assert [value[0] for value in got[1::3]] == [0, 1, 2]
    assert [int(value["a"].iloc[0]) for value in got[2::3]] == [0, 1, 2]


def test_numbers_and_short_texts_are_pickled_together() -> None:
    """In their order, whatever else comes between them; each can be read alone, and taken over into another frame."""
    items: list[Any] = [*range(600), [1], "a", b"b", None, "long" * 1000, 1.5, np.arange(2), *range(300), "end"]
    body = frame_of(*items)
    _, (sizes, *_) = read_document(body)
    assert len(sizes) // 8 == 3 + 1 + 1 + 1 + 1 + 1 + 2, "of numbers and short texts, 256 at most in each"
    frame = Frame(body)
    assert [str(frame[at]) for at in range(len(items) - 1, -1, -1)] == [str(item) for item in reversed(items)]
    assert [str(value) for some in frame.after(599) for value in some] == [str(item) for item in items[599:]]
    other = FrameWriter()
    for at in range(len(items)):
        other.add_pickled(*frame.pickled(at))
    assert [str(value) for value in Frame(b"".join(other.parts()))] == [str(item) for item in items]


@pytest.mark.parametrize("pickled", [[1, 2], (1, 2, 3), 7])
def test_values_that_were_not_pickled_together_are_refused(pickled: Any) -> None:
    """A frame says how many values a pickle has, and whoever signed it may have lied."""
    data = pickle.dumps(pickled, 5)
    blobs = [array("Q", [number]).tobytes() for number in (len(data), 3)]
    frame = Frame(b"".join(document({}, [*blobs, b"", data])), 3)
    with pytest.raises(Refused, match="3 values that were pickled together are not there"):
        frame[1]


def test_a_value_that_cannot_be_sent_harms_no_other() -> None:
    """It raises, and the frame holds the others, whichever of their buffers came before the trouble."""
    writer = FrameWriter()
    writer.add(np.arange(3))
    with pytest.raises(TypeError):
        writer.add([np.arange(100), (number for number in range(3))])
    writer.add("after")
    frame = Frame(b"".join(writer.parts()))
    assert frame[0].tolist() == [0, 1, 2]
    assert frame[1] == "after"
    assert len(frame) == len(writer) == 2


def test_functions_without_a_module_go_by_value() -> None:
    """Lambdas and closures, which plain pickle cannot send."""
    offset = 10
    add, twice = there_and_back(lambda x: x + offset, [lambda x: 2 * x])
    assert (add(1), twice[0](4)) == (11, 8)


@given(st.lists(values, min_size=1, max_size=5), st.lists(values, min_size=1, max_size=5), st.integers(0, 2**40))
def test_items_come_back_by_their_index_in_the_run(first: list[Any], second: list[Any], at: int) -> None:
    """Two frames of a pack, of which a span may touch one or both."""
    items = [*first, *second]
    pack = b"".join(
        item_frame(KEY, RUN, start, writer)
        for start, writer in ((at, written(first)), (at + len(first), written(second)))
    )
    span = Span(at, at + len(items))
    got = Frames(b"".join(checked_frames(KEY, RUN, pack, span)[0]))
    assert [got[index] for index in range(*span)] == items
    last = Span(span.hi - 1, span.hi)
    assert Frames(b"".join(checked_frames(KEY, RUN, pack, last)[0]))[last.lo] == items[-1]
    with pytest.raises(IndexError):
        got[span.hi]


def item_frame(key: bytes, run: str, first: int, writer: FrameWriter) -> bytes:
    """As a store holds it."""
    return b"".join(item_parts(key, run, first, writer))


def written(items: list[Any]) -> FrameWriter:
    """A writer that holds values."""
    writer = FrameWriter()
    for item in items:
        writer.add(item)
    return writer


chunks = st.builds(
    lambda lo, size, function, offset, length, deaths: Chunk(
        span=Span(lo, lo + size), function=function, ref=PackRef("runs/r/packs/0", offset, length), deaths=deaths
    ),
    st.integers(0, 2**50),
    st.integers(1, 2**30),
    st.from_regex(r"runs/[a-z0-9-]{1,40}/functions/[0-9a-f]{1,64}", fullmatch=True),
    st.integers(0, 2**50),
    st.integers(0, 2**50),
    st.integers(0, 20),
)


@given(chunks, st.none() | st.binary())
def test_chunk_messages_come_back(chunk: Chunk, frames: bytes | None) -> None:
    """With the frames that ride along, if any do."""
    for again in (False, True):
        message = chunk_message(KEY, FLEET, RUN, chunk, frames, again=again)
        assert read_chunk_message(KEY, FLEET, message) == (RUN, chunk, frames, again)


failures = st.builds(
    Failure,
    index=st.integers(0, 2**50),
    kind=st.sampled_from(FailureKind),
    error=st.text(),
    message=st.text(st.characters()),
    traceback=st.text(),
    worker=st.text(),
    exception=st.none() | st.binary(),
)


@given(
    st.lists(failures, max_size=3),
    st.lists(st.lists(values, min_size=1, max_size=3), max_size=3),
    st.lists(st.integers(1, 2**30), max_size=3),
    st.dictionaries(st.integers(0, 2**50), st.text()),
    st.floats(0, 1e9),
)
def test_outcomes_come_back(
    failed: list[Failure], batches: list[list[Any]], sizes: list[int], logs: dict[int, str], seconds: float
) -> None:
    """With values, failures, what is delegated and what was printed, whatever the text."""
    at = len(failed)
    kept = []
    for batch in batches:
        kept.append(Batch(span=Span(at, at + len(batch)), frame=memoryview(frame_of(*batch))))
        at += len(batch)
    rest = []
    for size in sizes:
        rest.append(Chunk(span=Span(at, at + size), function="runs/r/functions/f", ref=PackRef("runs/r/packs/0", 0, 1)))
        at += size
    outcome = Outcome(
        span=Span(0, max(at, 1)),
        worker="w",
        seconds=seconds,
        batches=tuple(kept),
        failures=tuple(replace(failure, index=index) for index, failure in enumerate(failed)),
        rest=tuple(rest) if at else (Chunk(span=Span(0, 1), function="f", ref=PackRef("p", 0, 1)),),
        logs=logs,
    )
    got = read_outcome(KEY, "runs/r/outcomes/0", b"".join(outcome_parts(KEY, "runs/r/outcomes/0", outcome)))
    assert (got.span, got.worker, got.failures, got.rest, got.logs) == (
        outcome.span,
        outcome.worker,
        outcome.failures,
        outcome.rest,
        outcome.logs,
    )
    assert got.seconds == pytest.approx(seconds, abs=1e-6)
    assert [list(Frame(batch.frame)) for batch in got.batches] == batches
    assert [batch.span for batch in got.batches] == [batch.span for batch in outcome.batches]


# --- refusal ----------------------------------------------------------------------------------------------------------


def test_the_bombs_are_live() -> None:
    """What the other tests prove not to happen does happen when somebody unpickles."""
    list(Frame(unseal(KEY, "a", seal(KEY, "a", [frame_of(Bomb())]))))
    assert Bomb.went_off == 1
    Bomb.went_off = 0


def test_any_flipped_bit_is_refused() -> None:
    """Every bit of a sealed payload, from its first to its last."""
    sealed = seal(KEY, "a", [frame_of(Bomb())])
    for at in range(len(sealed) * 8):
        forged = bytearray(sealed)
        forged[at // 8] ^= 1 << at % 8
        with pytest.raises(Refused):
            unseal(KEY, "a", forged)


@given(st.data())
def test_a_payload_cut_or_grown_is_refused(data: st.DataObject) -> None:
    """At any length, and with anything behind it."""
    sealed = seal(KEY, "a", [frame_of(Bomb())])
    cut = data.draw(st.integers(0, len(sealed) - 1))
    more = data.draw(st.binary(min_size=1))
    for forged in (sealed[:cut], sealed + more, more, b""):
        with pytest.raises(Refused):
            unseal(KEY, "a", forged)


@given(st.binary(min_size=0, max_size=64), st.text(), st.text())
def test_a_payload_is_good_for_its_key_and_place_only(key: bytes, about: str, other: str) -> None:
    """A function is no item, an item of one run none of another, and nobody else's key will do."""
    sealed = seal(key, about, [frame_of(Bomb())])
    assert bytes(unseal(key, about, sealed)) == frame_of(Bomb())
    if other != about:
        with pytest.raises(Refused):
            unseal(key, other, sealed)
    with pytest.raises(Refused, match="nothing was unpickled"):
        unseal(key + b"!", about, sealed)


def test_large_bodies_are_signed_all_the_same() -> None:
    """Each by what `docs/wire.md` says, whatever parts it comes in; another bit, place, key or length is refused."""
    halves = [random.Random(part).randbytes(1 << 19) for part in range(2)]
    sealed = seal(KEY, "a", halves)
    derived = hmac.digest(KEY, f"large\0{seals.WIRE_VERSION}\0a\0".encode(), "sha256")
    assert sealed[4:36] == blake3(b"".join(halves), key=derived).digest()
    assert seal(KEY, "a", [b"".join(halves)]) == sealed
    assert bytes(unseal(KEY, "a", sealed)) == b"".join(halves)
    for at in (4, 36, len(sealed) // 2, len(sealed) - 1):
        forged = bytearray(sealed)
        forged[at] ^= 1
        with pytest.raises(Refused):
            unseal(KEY, "a", forged)
    for key, about, blob in ((OTHER_KEY, "a", sealed), (KEY, "b", sealed), (KEY, "a", sealed[:-1])):
        with pytest.raises(Refused):
            unseal(key, about, blob)


def test_a_refusal_names_what_was_refused() -> None:
    """So that one finds it."""
    with pytest.raises(Refused, match="runs/r/outcomes/7: not signed with this site's key"):
        unseal(OTHER_KEY, "runs/r/outcomes/7", seal(KEY, "runs/r/outcomes/7", [b""]))
    with pytest.raises(Refused, match="runs/r/outcomes/7: not a starburst payload"):
        unseal(KEY, "runs/r/outcomes/7", b"\x80\x05.")


@pytest.mark.parametrize("version", [0, seals.WIRE_VERSION - 1, seals.WIRE_VERSION + 1, 255])
def test_another_wire_version_says_what_to_do(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """`UnknownVersion` names both versions and the remedy, for payloads and messages of ours; anybody's are refused."""
    said = rf"a: wire version {version}, this starburst speaks {seals.WIRE_VERSION}: use the same starburst release"
    monkeypatch.setattr(seals, "WIRE_VERSION", version)
    sealed, message = seal(KEY, "a", [frame_of(Bomb())]), seal_message(KEY, "a", {})
    forged, forgery = seal(OTHER_KEY, "a", [frame_of(Bomb())]), seal_message(OTHER_KEY, "a", {})
    monkeypatch.undo()
    with pytest.raises(UnknownVersion, match=said):
        unseal(KEY, "a", sealed)
    with pytest.raises(UnknownVersion, match=said):
        open_message(KEY, "a", message)
    with pytest.raises(Refused, match="not signed"):
        unseal(KEY, "a", forged)
    with pytest.raises(Refused, match="not signed"):
        open_message(KEY, "a", forgery)


def test_a_version_cannot_be_talked_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """A payload of another version with this version's number written over it is refused."""
    monkeypatch.setattr(seals, "WIRE_VERSION", seals.WIRE_VERSION + 1)
    sealed = bytearray(seal(KEY, "a", [b"body"]))
    message = seal_message(KEY, "a", {})
    monkeypatch.undo()
    sealed[3] = seals.WIRE_VERSION
    with pytest.raises(Refused):
        unseal(KEY, "a", sealed)
    with pytest.raises(Refused):
        open_message(KEY, "a", f"{seals.WIRE_VERSION}{message[1:]}")


def test_any_changed_character_of_a_message_is_refused() -> None:
    """Of the version, the signature and the text, whatever it is changed to."""
    message = seal_message(KEY, "a", {"run": RUN, "chunk": [1, 2]})
    for at in range(len(message)):
        for other in ("0", "x", ".", "²", "é", "\0", "\ud800", ""):
            if other != message[at]:
                with pytest.raises(Refused):
                    open_message(KEY, "a", message[:at] + other + message[at + 1 :])


@given(st.text(st.characters()))
def test_any_text_that_is_no_message_is_refused(body: str) -> None:
    """Anybody may write to a queue: no text brings a worker down."""
    for text in (body, f"1.{body}", f"1.{body}.{{}}", f"{body}..{{}}", "9" * 5000 + ".a.b"):
        with pytest.raises(Refused):
            open_message(KEY, "a", text)


def test_a_message_is_good_for_its_key_and_place_only() -> None:
    """A notice of one run is none of another, and no chunk."""
    message = seal_message(KEY, "notice run-1", {"a": 1})
    assert open_message(KEY, "notice run-1", message).raw == {"a": 1}
    for key, about in ((OTHER_KEY, "notice run-1"), (KEY, "notice run-2"), (KEY, "chunk run-1")):
        with pytest.raises(Refused):
            open_message(key, about, message)


def test_frames_that_ride_along_are_covered_twice() -> None:
    """By the message's signature, and by their own against a chunk of another run."""
    pack = item_frame(KEY, RUN, 0, written([Bomb()]))
    message = chunk_message(KEY, FLEET, RUN, Chunk(span=Span(0, 1), function="f", ref=PackRef("p", 0, 1)), pack)
    at = message.index(b64encode(pack).decode()[:20])
    with pytest.raises(Refused):
        read_chunk_message(KEY, FLEET, message[:at] + "B" + message[at + 1 :])
    _, chunk, frames, _ = read_chunk_message(KEY, FLEET, message)
    assert frames == pack == b64decode(b64encode(pack))
    with pytest.raises(Refused):
        checked_frames(KEY, "run-2", frames, chunk.span)
    with pytest.raises(Refused):
        checked_frames(OTHER_KEY, RUN, frames, chunk.span)


def test_any_flipped_bit_of_an_item_frame_is_refused() -> None:
    """Its index, count and length before the seal as well as what is sealed: no item is swapped, lost or made up."""
    pack = item_frame(KEY, RUN, 5, written([Bomb(), 1])) + item_frame(KEY, RUN, 7, written([2]))
    assert checked_frames(KEY, RUN, pack, Span(5, 8))
    for at in range(len(pack) * 8):
        forged = bytearray(pack)
        forged[at // 8] ^= 1 << at % 8
        with pytest.raises(Refused):
            checked_frames(KEY, RUN, forged, Span(5, 8))


@given(st.data())
def test_frames_cut_or_in_disorder_are_refused(data: st.DataObject) -> None:
    """A pack that lacks a part of the span is refused, as is one with a made-up header."""
    parts = [item_frame(KEY, RUN, at, written([at, at + 1])) for at in (0, 2, 4)]
    whole = b"".join(parts)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(Refused):
        checked_frames(KEY, RUN, whole[:cut], Span(0, 6))
    with pytest.raises(Refused):
        checked_frames(KEY, RUN, parts[0] + parts[2], Span(0, 6))
    moved = struct.pack(">Q", 2) + parts[0][8:]  # items 0 and 1 passed off as 2 and 3
    with pytest.raises(Refused):
        checked_frames(KEY, RUN, parts[0] + moved + parts[2], Span(0, 6))


def test_frames_beside_the_span_are_not_even_looked_at() -> None:
    """A pack's neighbours may be anybody's trouble; only what is wanted is checked and passed on."""
    mine, other = item_frame(KEY, RUN, 0, written([1])), item_frame(OTHER_KEY, RUN, 1, written([Bomb()]))
    parts, _ = checked_frames(KEY, RUN, mine + other, Span(0, 1))
    assert Frames(b"".join(parts))[0] == 1
    with pytest.raises(Refused):
        checked_frames(KEY, RUN, mine + other, Span(0, 2))


def test_an_outcome_under_another_name_is_refused() -> None:
    """Nobody can answer one chunk with another's values."""
    outcome = Outcome(
        span=Span(0, 1),
        worker="w",
        seconds=0,
        batches=(Batch(span=Span(0, 1), frame=memoryview(frame_of(Bomb()))),),
    )
    body = b"".join(outcome_parts(KEY, "runs/r/outcomes/0", outcome))
    with pytest.raises(Refused):
        read_outcome(KEY, "runs/r/outcomes/1", body)
    with pytest.raises(Refused):
        read_outcome(OTHER_KEY, "runs/r/outcomes/0", body)
    assert read_outcome(KEY, "runs/r/outcomes/0", body).span == Span(0, 1)


@given(st.integers(0, 400), st.integers(0, 300), st.data())
def test_an_outcome_s_start_tells_its_summary(rest: int, failed: int, data: st.DataObject) -> None:
    """It is signed by itself: what comes after it need not be read, but must be as long as it was."""
    chunks = tuple(A_CHUNK.narrowed(Span(failed + at, failed + at + 1), deaths=0) for at in range(rest))
    failures = tuple(Failure(index=at, kind=FailureKind.USER, error=f"E{at}", message="m" * 99) for at in range(failed))
    last = Span(failed + rest, failed + rest + 1)
    values = Batch(span=last, frame=memoryview(frame_of(b"v" * 999)))
    outcome = Outcome(span=Span(0, last.hi), worker="w", seconds=1.0, batches=(values,), failures=failures, rest=chunks)
    body = b"".join(outcome_parts(KEY, "o", outcome))
    nbytes = summary_nbytes(body[: data.draw(st.integers(40, 200))])
    told = Summary.of(outcome)
    assert read_summary(KEY, "o", body[:nbytes], len(body)) == told
    changed = bytearray(body)
    changed[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Refused):
        read_outcome(KEY, "o", changed)
    with pytest.raises(Refused):
        read_summary(KEY, "o", body[: data.draw(st.integers(0, nbytes - 1))], len(body))
    with pytest.raises(Refused, match="come after it"):
        read_summary(KEY, "o", body[:nbytes], data.draw(st.integers(nbytes, len(body) - 1)))
    with suppress(Refused):
        assert read_summary(KEY, "o", changed, len(body)) == told


# --- ours, but not as it should be ------------------------------------------------------------------------------------

odd = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([10**400, "../x", "a//b", "", -1, 2**63, "9" * 5000]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every list or object within a JSON value, and an index or name in it."""
    inside = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    return [(value, at) for at, _ in inside] + [place for _, each in inside for place in places(each)]


@st.composite
def spoilt(draw: st.DrawFn, value: dict[str, Any]) -> Any:
    """A JSON object in which something is missing, something else, or in another's place."""
    changed = json.loads(json.dumps(value))
    for _ in range(draw(st.integers(1, 2))):
        if not (there := places(changed)):
            break
        inside, at = draw(st.sampled_from(there))
        how = draw(st.sampled_from(["missing", "odd", "reversed", "twice"]))
        if how == "missing":
            del inside[at]
        elif how == "odd":
            inside[at] = draw(odd)
        elif isinstance(inside, list):
            inside[:] = inside[::-1] if how == "reversed" else inside * 2
    return changed if draw(st.integers(0, 20)) else draw(odd)


A_CHUNK = Chunk(span=Span(2, 9), function="runs/r/functions/f", ref=PackRef("runs/r/packs/0", 3, 40), deaths=1)
AN_OUTCOME = Outcome(
    span=Span(2, 9),
    worker="w",
    seconds=1.5,
    batches=(Batch(span=Span(2, 4), frame=memoryview(frame_of(1, np.zeros(3)))),),
    failures=(
        Failure(index=4, kind=FailureKind.USER, error="E", message="m", traceback="t", exception=b"e"),
        Failure(index=5, kind=FailureKind.OOM, error="O", message=""),
    ),
    rest=(A_CHUNK.narrowed(Span(6, 9), deaths=0),),
    logs={2: "printed"},
)
A_SPEC = {
    "wire": seals.WIRE_VERSION,
    "python": [3, 11],
    "run": RUN,
    "fleet": FLEET,
    "label": "l",
    "tags": {"a": "b"},
    "function": "f",
    "created_at": 1.5,
    "workers": 2,
    "cpu": 1.0,
    "memory_mib": 512,
    "slots": 1,
    "memory_given": False,
    "spot": False,
    "image": "",
    "options": {
        "chunk_size": 5,
        "retries": 1,
        "retry_delay_s": 0.5,
        "timeout_s": 3.0,
        "tolerate_count": 0,
        "tolerate_percent": None,
        "return_exceptions": False,
        "seed": 7,
        "priority": 2.0,
        "driver_ttl_s": 900.0,
        "limits": {"budget_usd": None, "deadline_s": 60.0, "deadline_at": None},
        "keep_warm_s": 600.0,
    },
    "place": {"folder": "/home/me", "files": "", "argv": ["mine.py"]},
}


class Holding:
    """A store with one object."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    def get(self, key: str, most: int = 0) -> bytes:
        return self.body


def backend_with(key: str, header: Any, blobs: list[bytes] | None = None) -> Any:
    """As much of a backend as reading one object takes; the object is ours, whatever it holds."""
    body = json.dumps(header).encode()
    return SimpleNamespace(
        name="local", key=KEY, store=Holding(seal(KEY, key, [len(body).to_bytes(4), body, *(blobs or [])]))
    )


def only_refused(read: Callable[[], Any]) -> None:
    """It is read, or is refused."""
    with suppress(Refused):
        read()


@settings(max_examples=60)
@given(st.data())
def test_what_we_signed_and_should_not_have_written_is_refused(data: st.DataObject) -> None:
    """Chunks, notices, specs, functions, ends and plans in which something is missing, wrong, huge or reversed."""
    names = RunNames(RunId(RUN))
    frames = b64encode(item_frame(KEY, RUN, 0, written([1, 2]))).decode()
    message = data.draw(spoilt({"run": RUN, "chunk": chunk_fields(A_CHUNK), "frames": frames}))
    only_refused(lambda: read_chunk_message(KEY, FLEET, seal_message(KEY, f"chunk {FLEET}", message)))
    notice = data.draw(spoilt({"span": [2, 9], "summary": Summary.of(AN_OUTCOME).fields, "outcome": "AAAA"}))

    def book() -> None:
        read = read_notice(KEY, RUN, seal_message(KEY, f"notice {RUN}", notice))
        if read.summary is not None:
            tally = Tally()
            tally.plan([A_CHUNK])
            tally.settle(read.summary)

    only_refused(book)
    spec = data.draw(spoilt(A_SPEC | {"blobs": []}))
    only_refused(lambda: read_spec(backend_with(names.spec, spec), names.run).policy)
    only_refused(lambda: KnownRuns(backend_with(names.spec, spec), 1.0)._spec(names))
    function = data.draw(spoilt({"style": "one", "retry_timeouts": False, "bundle": None, "blobs": [3]}))
    only_refused(lambda: Fetched(backend_with("f", function, [b"abc"]), Path("/nowhere")).function("f"))
    end = data.draw(
        spoilt({"state": "failed", "reason": "", "items": 3, "answered": 3, "failed": 1, "withdrawn": 0, "blobs": []})
    )
    only_refused(lambda: read_end(backend_with(names.end, end), names.run))
    plan = data.draw(spoilt({"chunks": [chunk_fields(A_CHUNK)], "blobs": []}))
    only_refused(lambda: PlannedChunks.read(KEY, "p", backend_with("p", plan).store.body))


@settings(max_examples=60)
@given(st.data())
def test_an_outcome_that_we_should_not_have_written_is_refused(data: st.DataObject) -> None:
    """In its header, its frames or its logs; where it is taken, every item of it that it claims has an answer."""
    body = bytes(unseal(KEY, "o", b"".join(outcome_parts(KEY, "o", AN_OUTCOME))))
    summary, body = body[4 + 36 :][: int.from_bytes(body[:4]) - 36], body[4 + int.from_bytes(body[:4]) :]
    told, header = (json.loads(each[4 : 4 + int.from_bytes(each[:4])]) for each in (summary, body))
    blobs = bytearray(body[4 + int.from_bytes(body[:4]) :])
    for _ in range(data.draw(st.integers(0, 2))):
        blobs[data.draw(st.integers(0, 100))] = data.draw(st.integers(0, 255))
    head = json.dumps(data.draw(spoilt(header) | st.just(header))).encode()
    told["after"] = 4 + len(head) + len(blobs)
    heads = [json.dumps(data.draw(spoilt(told) | st.just(told))).encode(), head]
    start = seal(KEY, "o summary", [len(heads[0]).to_bytes(4), heads[0]])
    sealed = seal(KEY, "o", [len(start).to_bytes(4), start, len(heads[1]).to_bytes(4), heads[1], blobs])

    def read() -> None:
        outcome = read_outcome(KEY, "o", sealed)
        for batch in outcome.batches:
            Frame(batch.frame, batch.span.size)
        told = [*(batch.span for batch in outcome.batches), *(chunk.span for chunk in outcome.rest)]
        told += [Span(failure.index, failure.index + 1) for failure in outcome.failures]
        assert without(outcome.span, told) == ()
        assert tally_takes(outcome)

    only_refused(read)
    only_refused(lambda: booked(read_summary(KEY, "o", sealed, len(sealed))))


def tally_takes(outcome: Outcome) -> bool:
    """Whether it can be booked."""
    return booked(Summary.of(outcome))


def booked(summary: Summary) -> bool:
    """Whether a summary can be booked."""
    tally = Tally()
    tally.plan([Chunk(span=summary.span, function="f", ref=PackRef("p", 0, 1))])
    return bool(tally.settle(summary))


@settings(max_examples=20)
@given(st.integers(1, 5000), st.integers(0, 3000), st.integers(0, 20_000))
def test_a_notice_is_bounded_whatever_it_tells_of(gaps: int, failed: int, name: int) -> None:
    """Thousands of chunks delegated, of failures, names without end: what is too much is read from the store."""
    rest = tuple(A_CHUNK.narrowed(Span(2 * at, 2 * at + 1), deaths=0) for at in range(gaps))
    failures = tuple(
        Failure(index=2 * at + 1, kind=FailureKind.USER, error="E" * name, message="")
        for at in range(min(failed, gaps))
    )
    outcome = Outcome(span=Span(0, 2 * gaps), worker="w", seconds=1.0, rest=rest, failures=failures)
    for body in (None, b"x" * 65536):
        text = notice_message(KEY, RUN, outcome, body)
        assert len(text.encode()) <= NOTICE_BYTES
        notice = read_notice(KEY, RUN, text)
        assert notice.span == outcome.span
        if notice.summary is not None:
            assert notice.summary.failed == len(failures)
            assert len(notice.summary.rest) == gaps
