"""What lies in the store and in queues, signed and not: one target a kind of object."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import pickle
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from secrets import token_hex
from shutil import rmtree
from types import SimpleNamespace

from starburst_common.aws.accounts import Account
from starburst_common.aws.launches import Launches
from starburst_common.cli.costs import fields_of
from starburst_common.cli.lines import json_text
from starburst_common.cli.show import run_fields
from starburst_common.cli.status import event_fields
from starburst_common.dollars import usd_text
from starburst_common.errors import NotFound, Refused
from starburst_common.ids import run_id
from starburst_common.model import FleetId, Granted, RunId, Span, WorkerEnd, WorkerId, WorkerPhase, WorkerState
from starburst_common.money.accounts import AccountEntry, Stint
from starburst_common.names import PRUNED, RunNames, account, claim, fleet_folder, launch_record, new_stops_record
from starburst_common.ports import Backend
from starburst_common.runs.accounts import read_entry
from starburst_common.runs.answers import exception_of
from starburst_common.runs.begin import recovered
from starburst_common.runs.claims import Claims, Stage
from starburst_common.runs.costs import key_of, run_costs, sums
from starburst_common.runs.find import attach
from starburst_common.runs.history import keep_history, stored_waits
from starburst_common.runs.messages import chunk_message, notice_message, read_chunk_message, read_notice
from starburst_common.runs.outcomes import read_outcome
from starburst_common.runs.prune import prune, prune_now_and_then
from starburst_common.runs.renumbered import numbers_of
from starburst_common.runs.replay import stored_call, stored_items
from starburst_common.runs.run import Run
from starburst_common.runs.sign import Watch, read_sign
from starburst_common.runs.spec import find_spec, read_end, read_spec
from starburst_common.runs.status import stored_status
from starburst_common.wire.documents import document, open_message, read_document, seal_document, seal_message
from starburst_common.wire.fields import read_chunk
from starburst_common.wire.frames import Frame, FrameWriter
from starburst_common.wire.functions import deflated
from starburst_common.wire.items import Frames, checked_frames, item_parts
from starburst_common.wire.seals import seal, unseal
from starburst_common.wire.shared import read_shared, shared_document
from starburst_common.wire.stretches import StretchWriter
from starburst_worker.fetched import Fetched
from starburst_worker.intake import Intake
from starburst_worker.known import KnownRuns
from starburst_worker.loaded import load_function
from tests.fuzz.hunt import Target
from tests.fuzz.mutations import Kind
from tests.fuzz.tripwire import Wire
from tests.fuzz.world import ITEMS, World

ABOUT = "runs/run-1/thing"
_LENGTH = struct.Struct(">I")
_ITEMS = struct.Struct(">QQQ")
FORGER = b"another site's key" * 2


def targets(world: World, folder: Path) -> list[Target]:
    """All of them."""
    return [
        *_sealed(world),
        *_messages(world),
        *_objects(world, folder),
        *_frames(world),
        *_unsealed(world),
        *_launches(world),
        *_claims(world),
        *_accounts(world),
        *_names(world),
    ]


# --- envelopes --------------------------------------------------------------------------------------------------------


def _sealed(world: World) -> list[Target]:
    key = world.backend.key
    samples = [*world.bodies.values()]

    def document(blob: bytes) -> None:
        header, blobs = read_document(blob)
        for name in itertools.islice(header.raw, 3):
            _every_kind(header, name)
        assert sum(map(len, blobs)) <= len(blob)

    return [
        Target(name="wire.unseal", kind=Kind.BYTES, samples=samples, feed=lambda blob: unseal(key, ABOUT, blob)),
        Target(
            name="wire.read_document",
            kind=Kind.DOCUMENT,
            samples=[world.body(name) for name in world.bodies if _is_sealed(name)],
            feed=document,
            signed=True,
        ),
        Target(
            name="wire.read_shared",
            kind=Kind.DOCUMENT,
            samples=[b"".join(shared_document(pickle.dumps([1]), [bytes(100), b"", bytes(64)], ["0" * 64]))],
            feed=read_shared,
            signed=True,
        ),
    ]


def _every_kind(header: object, name: str) -> None:
    for kind in (
        "text",
        "name",
        "key",
        "flag",
        "whole",
        "number",
        "many",
        "texts",
        "fields",
        "span",
        "spans",
        "chunks",
        "given",
    ):
        with suppress(Refused):
            getattr(header, kind)(name)


def _is_sealed(key: str) -> bool:
    return not any(part in key for part in ("/packs/", "/expires", "/driven", "/feeding", "/cancel", "report"))


def _messages(world: World) -> list[Target]:
    key, run = world.backend.key, world.run
    chunk = read_chunk(world.field(world.keys(world.names.plans)[0], "chunks")[0])
    frames = world.backend.store.get_range(*chunk.ref)
    outcomes = [read_outcome(key, name, world.bodies[name]) for name in world.keys(world.names.outcomes)]
    bodies = [world.bodies[name] for name in world.keys(world.names.outcomes)]
    chunks = [
        chunk_message(key, world.fleet, run, chunk, frames),
        chunk_message(key, world.fleet, run, chunk, again=True),
    ]
    notices = [notice_message(key, run, *each) for each in zip(outcomes, bodies, strict=True)]
    notices.append(notice_message(key, run, outcomes[0], None))

    def take(text: str) -> None:
        name, taken, inline, _ = read_chunk_message(key, world.fleet, text)
        if inline is not None:
            checked_frames(key, name, inline, taken.span)
        RunNames(RunId(name)).outcome(taken.span)

    def hear(text: str) -> None:
        notice = read_notice(key, run, text)
        spec = read_spec(world.backend, run)
        if notice.summary is not None:
            recovered(world.backend, spec).books.book(notice.summary, notice.outcome)
        if notice.outcome is not None:
            read_outcome(key, world.names.outcome(notice.span), notice.outcome)

    made = []
    for name, about, texts, read in (
        ("chunk message", f"chunk {world.fleet}", chunks, take),
        ("notice", f"notice {run}", notices, hear),
    ):
        made.append(Target(name=name, kind=Kind.BYTES, samples=[text.encode() for text in texts], feed=_text(read)))
        made.append(
            Target(
                name=name,
                kind=Kind.JSON,
                samples=[text.split(".", 2)[2].encode() for text in texts],
                feed=_signed_message(world, about, read),
                signed=True,
            )
        )
    made.append(
        Target(
            name="wire.open_message",
            kind=Kind.BYTES,
            samples=[text.encode() for text in chunks],
            feed=_text(lambda text: open_message(key, f"chunk {world.fleet}", text)),
        )
    )
    return made


def _text(read: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda blob: read(blob.decode("utf-8", "surrogateescape"))


def _signed_message(world: World, about: str, read: Callable[[str], object]) -> Callable[[bytes], object]:
    mac_and_version = seal_message(world.backend.key, about, {})
    version = mac_and_version.partition(".")[0]

    def feed(blob: bytes) -> None:
        text = blob.decode("ascii", "backslashreplace")
        mac = hmac.new(world.backend.key, f"{version}\0{about}\0".encode() + text.encode(), hashlib.sha256).hexdigest()
        read(f"{version}.{mac}.{text}")

    return feed


# --- objects of a run -------------------------------------------------------------------------------------------------


def _objects(world: World, folder: Path) -> list[Target]:
    names, run, backend, looks = world.names, world.run, world.backend, itertools.count()

    def spec(backend: Backend, key: str) -> None:
        found = find_spec(backend, run)
        stored_status(backend, found)
        if not found.damage:
            _ = found.policy
            _look_over(backend)
        _run_of_a_worker(backend)
        read_spec(backend, run)

    def plan(backend: Backend, key: str) -> None:
        recovered(backend, read_spec(backend, run))
        stored_status(backend, read_spec(backend, run))
        for _, _item in zip(range(2 * ITEMS), stored_items(backend, run), strict=False):
            pass

    def whole(backend: Backend, key: str) -> None:
        recovered(backend, read_spec(backend, run))
        _look_over(backend)

    def end(backend: Backend, key: str) -> None:
        found = read_end(backend, run)
        assert found is not None
        _look_over(backend)
        with suppress(NotFound):
            prune(backend)

    def outcome(backend: Backend, key: str) -> None:
        _look_over(backend)
        found = read_outcome(backend.key, key, backend.store.get(key))
        for failure in found.failures:
            exception_of(failure)
        for batch in found.batches:
            Frame(batch.frame, batch.span.size)

    def function(backend: Backend, key: str) -> None:
        try:
            stored_call(backend, run, 0, folder)
        finally:
            for left in folder.iterdir():
                rmtree(left, ignore_errors=True)
        _function_of_a_worker(backend, key)

    def _function_of_a_worker(backend: Backend, key: str) -> None:
        scratch = folder / token_hex(4)
        scratch.mkdir()
        try:
            found = Fetched(backend, scratch).function(key)
            load_function(found.stored.blob, None, {})
        finally:
            rmtree(scratch)

    def code(backend: Backend, key: str) -> None:
        _function_of_a_worker(backend, functions[0])

    def _run_of_a_worker(backend: Backend) -> None:
        with suppress(Refused):
            KnownRuns(backend, 1.0).run(run)

    def _look_over(backend: Backend) -> None:
        """As `starburst status` and `runs` do; the report, which takes longest, with some inputs only."""
        found = Run(backend, find_spec(backend, run), None)
        status = found.status()
        run_fields(found, status)
        found.events()
        with suppress(Refused):
            [*found.failures(), *found.logs()]
        with suppress(Refused):
            if next(looks) % 8 == 0:
                found.report()

    functions = world.keys(names.functions)
    made = []
    for name, keys, read, kind in (
        ("spec", [names.spec], spec, Kind.DOCUMENT),
        ("plan", world.keys(names.plans), plan, Kind.DOCUMENT),
        ("input", [names.input], whole, Kind.DOCUMENT),
        ("end", [names.end], end, Kind.DOCUMENT),
        ("outcome", world.keys(names.outcomes), outcome, Kind.DOCUMENT),
        ("function", functions, function, Kind.DOCUMENT),
        ("bundle", world.keys(f"{names.folder}code/"), code, Kind.BYTES),
    ):
        made += _both(world, name, keys, read, kind)
    header, _ = read_document(world.body(names.end))
    ended = world.sealed(names.end, b"".join(document({**header.raw, "state": "cancelled"})))
    resumed, printed = RunNames(run, 1).resumed, names.printed("fleet-20270101-000000-0a1b2c3d-000001")

    def leg(backend: Backend, key: str) -> None:
        with world.having(names.end, ended):
            stored_status(backend, read_spec(backend, run))
            _run_of_a_worker(backend)

    def numbers(backend: Backend, key: str) -> None:
        found = numbers_of(backend, run)
        for at in range(ITEMS):
            found.at(found.of(at))
        found.spans_of(Span(0, ITEMS))

    def prints(backend: Backend, key: str) -> None:
        for item, text in Run(backend, read_spec(backend, run), None).logs(follow=True):
            assert item >= 0 and text

    def happened(backend: Backend, key: str) -> None:
        events = Run(backend, read_spec(backend, run), None).events()
        for event in events:
            event_fields(event)
        assert isinstance(stored_waits(backend, run, 0), str)
        keep_history(backend, names, events)
        assert len(backend.store.get(key)) < 1 << 16

    said = [[3, 1, 0, "item 3\n", False], [3, 2, 5, "é", True], [14, 2, 0, "", False]]
    begun = [["launched", 1.5, "0-3", 4, 0, 0, 0], ["settled", 2, "", 0, 9, 1, 4], ["odd", 3.0, "", 0, 0, 0, 0]]
    waits = [["waits", 4.0, "capacité", 0, 9, 1, 4], ["waits", 5.0, "", 0, 9, 1, 4]]
    for name, key, fields, read in (
        ("resumed", resumed, {"fleet": world.fleet, "forgiven": 2}, leg),
        ("numbers", names.numbers, {"spans": [[3, 5], [9, 10]]}, numbers),
        ("prints", printed, {"prints": said}, prints),
        ("history", names.history, {"events": begun + waits}, happened),
    ):
        made += _beside(world, name, key, b"".join(document(fields)), read)
    assert backend is world.backend
    return made


def _beside(world: World, name: str, key: str, body: bytes, read: Callable[[Backend, str], None]) -> list[Target]:
    """Of what the world has none of: unsigned, and signed."""

    def unsigned(blob: bytes) -> None:
        with world.having(key, blob) as backend:
            read(backend, key)

    return [
        Target(name=name, kind=Kind.BYTES, samples=[world.sealed(key, body), seal(FORGER, key, [body])], feed=unsigned),
        Target(
            name=name,
            kind=Kind.DOCUMENT,
            samples=[body],
            feed=lambda blob: unsigned(world.sealed(key, blob)),
            signed=True,
        ),
    ]


def _both(
    world: World, name: str, keys: Sequence[str], read: Callable[[Backend, str], None], kind: Kind
) -> list[Target]:
    """Unsigned, and signed."""
    key = keys[0]

    def unsigned(blob: bytes) -> None:
        with world.having(key, blob) as backend:
            read(backend, key)

    def sealed(before: bytes, after: bytes, body: bytes) -> None:
        with world.having(key, world.sealed(key, before + body + after)) as backend:
            read(backend, key)

    def summarized(body: bytes) -> None:
        summary = seal(world.backend.key, f"{key} summary", [body])
        sealed(_LENGTH.pack(len(summary)) + summary, documents[0], b"")

    stored, bodies = [world.bodies[each] for each in keys], [world.body(each) for each in keys]
    before, documents, more = b"", bodies, []
    if name == "outcome":  # whose summary comes first, under a seal of its own
        ends = [_LENGTH.size + _LENGTH.unpack_from(body)[0] for body in bodies]
        before, documents = bodies[0][: ends[0]], [body[end:] for body, end in zip(bodies, ends, strict=True)]
        seals = [body[_LENGTH.size : end] for body, end in zip(bodies, ends, strict=True)]
        about = [f"{each} summary" for each in keys]
        summaries = [bytes(unseal(world.backend.key, *each)) for each in zip(about, seals, strict=True)]
        more = [Target(name="summary", kind=kind, samples=summaries, feed=summarized, signed=True)]
    forged = [seal(FORGER, key, [before, _wired(each)]) for each in documents]
    return [
        Target(name=name, kind=Kind.BYTES, samples=[*stored, *forged], feed=unsigned),
        Target(name=name, kind=kind, samples=documents, feed=partial(sealed, before, b""), signed=True),
        *more,
    ]


def _wired(body: bytes) -> bytes:
    """A document whose blobs tell when they are unpickled."""
    try:
        header, blobs = read_document(body)
    except Refused:
        return body
    pickled = pickle.dumps(Wire())
    wires = {"a function": deflated(pickle.dumps((Wire(), ())), b"{}")} if header.given("style") else {}
    writer = FrameWriter()
    for _ in range(3):
        writer.add(Wire())
    frame = b"".join(writer.parts())
    counted = header.many("batches") if header.given("batches") else []
    more = [frame if at < len(counted) else wires.get("a function", pickled) for at, _ in enumerate(blobs)]
    return b"".join(document({name: header[name] for name in header.raw}, more))


# --- item frames ------------------------------------------------------------------------------------------------------


def _frames(world: World) -> list[Target]:
    key, run, span = world.backend.key, world.run, Span(0, ITEMS)
    pack = world.bodies[world.keys(f"{world.names.folder}packs/")[0]]
    outcome = read_outcome(key, *next((name, world.bodies[name]) for name in world.keys(world.names.outcomes)))
    frames = [bytes(batch.frame) for batch in outcome.batches]
    checked = b"".join(checked_frames(key, run, pack, span)[0])

    def unsigned(blob: bytes) -> None:
        found = Frames(b"".join(checked_frames(key, run, blob, span)[0]))
        for index in range(ITEMS):
            _ = found[index]

    def unsealed(blob: bytes) -> None:
        found = Frames(blob)
        assert all(lo <= hi for lo, hi, _ in found._frames)

    def frame(body: bytes) -> None:
        found = Frame(body)
        assert len(found) >= 0

    def place(body: bytes) -> None:
        found = Frames(_ITEMS.pack(0, ITEMS, len(body)) + body)
        assert len(found._frames[0][2]) >= 0

    where = b"".join(StretchWriter(range(ITEMS)).parts())
    writer = FrameWriter()
    for _ in range(ITEMS):
        writer.add(Wire())
    forged = b"".join(item_parts(FORGER, run, 0, writer))
    return [
        Target(name="pack", kind=Kind.BYTES, samples=[pack, forged], feed=unsigned),
        Target(name="checked frames", kind=Kind.BYTES, samples=[checked], feed=unsealed, signed=True),
        Target(name="frame", kind=Kind.DOCUMENT, samples=frames, feed=frame, signed=True),
        Target(name="frame of a sequence", kind=Kind.DOCUMENT, samples=[where], feed=place, signed=True),
    ]


# --- what is not sealed -----------------------------------------------------------------------------------------------


def _unsealed(world: World) -> list[Target]:
    names, run = world.names, world.run

    def sign(backend: Backend) -> None:
        read_sign(backend, run)
        Watch(backend, run).look()
        _status(backend)

    def _status(backend: Backend) -> None:
        for key in (names.end, names.input):
            backend.store.delete([key])
        try:
            stored_status(backend, read_spec(backend, run))
        finally:
            for key in (names.end, names.input):
                backend.store.put(key, world.bodies[key])

    def suspect(backend: Backend) -> None:
        chunk = SimpleNamespace(span=Span(3, 4))
        Intake._last_alone(SimpleNamespace(_backend=backend), run, chunk)  # type: ignore[arg-type]

    def pruned(backend: Backend) -> None:
        prune_now_and_then(backend)

    def expires(backend: Backend) -> None:
        try:
            found = Run(backend, read_spec(backend, run), None)
            if (until := found.expires_at) is not None:
                datetime.fromtimestamp(until, UTC)
        finally:
            prune(backend)
        found.extend(1.0)

    made = []
    for name, key, samples, read in (
        ("feeding", names.feeding, [b'{"word": "0a", "at": 1790000000.5}', b'{"ended": "why"}'], sign),
        ("suspect", names.suspect(3), [b"fleet-20270101-000000-0a1b2c3d-000001"], suspect),
        ("pruned-at", PRUNED, [b"1790000000.25"], pruned),
        ("expires", names.expires, [b"60.0", b"3600"], expires),
        ("driven", names.driven, [b""], _status),
    ):
        made.append(Target(name=name, kind=Kind.TEXT if name != "feeding" else Kind.JSON, samples=samples,
                           feed=_instead(world, key, read)))  # fmt: skip
    return made


def _instead(world: World, key: str, read: Callable[[Backend], None]) -> Callable[[bytes], None]:
    def feed(blob: bytes) -> None:
        with world.having(key, blob) as backend:
            read(backend)

    return feed


# --- launches ---------------------------------------------------------------------------------------------------------


def _launches(world: World) -> list[Target]:
    store, secret, fleet = world.backend.store, world.backend.key, FleetId("fleet-20270101-000000-0a1b2c3d")
    launches = Launches(store, secret)
    first = launches.claim(fleet, 0, 3, {"overrides": {"cpu": "1024"}}, spot=True)
    second = launches.claim(fleet, 3, 2, {"overrides": {"cpu": "1024"}}, spot=False)
    assert first is not None and second is not None
    launches.answer(fleet, first, ["arn:a/b/1", "arn:a/b/2", "arn:a/b/3"])
    ended = {"phase": WorkerPhase.STOPPED, "end": WorkerEnd.OOM, "exit_code": 137, "reason": "why"}
    states = [WorkerState(id=WorkerId(f"w{at}"), ordinal=at, started_at=1.0, **ended) for at in range(2)]
    launches.stopped(fleet, states)
    keys = [*store.list(fleet_folder(fleet))]
    stored = {key: bytes(store.get(key)) for key in keys}
    store.delete_folder(fleet_folder(fleet))
    made = []
    for name, key, samples in (
        ("launch", launch_record(fleet, 0, 0), [key for key in keys if "stops-" not in key]),
        ("stops", new_stops_record(fleet), [key for key in keys if "stops-" in key]),
    ):

        def read(blob: bytes, key: str = key) -> None:
            with world.having(key, blob):
                found, stops = Launches(store, secret).read(fleet)
                for launch in found:
                    assert launch.hi - launch.lo < 10_000
                    assert launch.tasks is None or len(launch.tasks) == launch.count
                    asdict(launch)
                assert all(isinstance(state.end, WorkerEnd) for state in stops.values())

        def signed(body: bytes, key: str = key, read: Callable[..., None] = read) -> None:
            read(world.sealed(key, body), key)

        bodies = [bytes(unseal(secret, each, stored[each])) for each in samples]
        made.append(Target(name=f"aws {name}", kind=Kind.BYTES, samples=[stored[key] for key in samples], feed=read))
        made.append(Target(name=f"aws {name}", kind=Kind.DOCUMENT, samples=bodies, feed=signed, signed=True))
    return made


# --- claims -----------------------------------------------------------------------------------------------------------


def _claims(world: World) -> list[Target]:
    backend, claims, key = world.backend, Claims(world.backend, "a1", by="one"), claim("a1", 3)
    first = claims.add(None, run=world.run, stage=Stage.INTENDED, about={"code": "c0de", "tries": "1"})
    assert first is not None and claims.add(first, run=world.run, stage=Stage.HELD, about=first.about) is not None
    assert claims.cancel()
    stored = {each: bytes(backend.store.get(each)) for each in backend.store.list(claim("a1"))}
    backend.store.delete_folder(claim("a1"))

    def read(blob: bytes) -> None:
        with world.having(key, blob):
            last = claims.last()
            assert last is not None and last.number == 3 and last.stage in [*Stage]
            assert all(
                isinstance(each, str) for each in (last.by, last.run, last.ends, *last.about, *last.about.values())
            )

    bodies = [bytes(unseal(backend.key, each, blob)) for each, blob in stored.items()]
    return [
        Target(name="claim", kind=Kind.BYTES, samples=[*stored.values()], feed=read),
        Target(
            name="claim",
            kind=Kind.DOCUMENT,
            samples=bodies,
            feed=lambda body: read(world.sealed(key, body)),
            signed=True,
        ),
    ]


# --- accounts ---------------------------------------------------------------------------------------------------------


def _accounts(world: World) -> list[Target]:
    """The entry of a run, and the account of a fleet that it shared; what they are told as is looked at, too."""
    secret, fleet = world.backend.key, FleetId("fleet-20270101-000000-0a1b2c3d")
    given = Granted(capacity="FARGATE_SPOT", architecture="x86_64", zone="a", vcpu=2.0, memory_mib=8192)
    state = WorkerState(id=WorkerId("w"), ordinal=0, phase=WorkerPhase.RUNNING, started_at=1.0, granted=given)
    about = account(fleet)
    closed = seal_document(secret, about, {"closed_at": 2.0, "workers": [asdict(state)]})
    mine = account(world.run)
    entry = AccountEntry.read(secret, mine, world.bodies[mine])
    shared = replace(entry, stints=(Stint(fleet, 60.0),)).sealed(secret, mine)

    def read(key: str, blob: bytes) -> None:
        other = (about, closed) if key == mine else (mine, shared)
        with world.having(key, blob), world.having(*other) as backend:
            found = run_costs(backend, 0.0)  # leaves out what it cannot read
            assert len(found) <= 1
            for by in ("flow", "dag", "day", "site", "tag:a"):
                for row in sums(found, key_of(by)):
                    assert row.usd >= 0 and usd_text(row.usd) and json_text(fields_of(row))
            if key == mine:
                read_entry(backend, key)
            else:
                Account.read(backend.store, secret, fleet)

    made = []
    for name, key, samples in (("run", mine, [world.bodies[mine], shared]), ("fleet", about, [closed])):
        feed = partial(read, key)
        bodies = [bytes(unseal(secret, key, sample)) for sample in samples]
        made.append(Target(name=f"accounts {name}", kind=Kind.BYTES, samples=samples, feed=feed))
        signed = partial(lambda feed, key, body: feed(world.sealed(key, body)), feed, key)
        made.append(Target(name=f"accounts {name}", kind=Kind.DOCUMENT, samples=bodies, feed=signed, signed=True))
    return made


# --- names ------------------------------------------------------------------------------------------------------------


def _names(world: World) -> list[Target]:
    names = world.names
    backend = world.backend

    def listed(blob: bytes) -> None:
        name = "".join(c for c in blob.decode("utf-8", "replace") if c.isprintable() and c not in "/#\\")[:100]
        if name.strip(". "):
            with world.having(names.outcomes + name, b""):
                spec = read_spec(backend, world.run)
                recovered(backend, spec)
                found = Run(backend, spec, None)
                found.status()
                [*found.failures(), *found.logs(3)]

    def ids(blob: bytes) -> None:
        attach(blob.decode("utf-8", "surrogateescape"), backend=backend)

    def folders(blob: bytes) -> None:
        name = "".join(c for c in blob.decode("utf-8", "replace") if c.isprintable() and c not in "/#\\")[:100]
        if name.strip(". "):
            key = f"runs/{name}/driven"
            with world.having(key, b""):
                prune(backend)

    return [
        Target(name="outcomes' names", kind=Kind.TEXT, samples=[str(Span(0, 3)).encode()], feed=listed),
        Target(name="run ids", kind=Kind.TEXT, samples=[world.run.encode(), b"x"], feed=ids),
        Target(name="runs' names", kind=Kind.TEXT, samples=[b"run-20270101-000000-0a1b2c3d"], feed=folders),
        Target(
            name="ids.run_id",
            kind=Kind.TEXT,
            samples=[world.run.encode()],
            feed=_text(run_id),
        ),
    ]
