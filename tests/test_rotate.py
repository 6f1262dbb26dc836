"""A signing key that is changed while runs are under way: each run keeps its own, and what begins later has the new."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from starburst_common import BadInput, Cluster, Refused, RunState, Unavailable, attach, costs, share, starburst_map
from starburst_common.aws.setup.rotation import change_key as change_on_aws
from starburst_common.errors import Unsigned
from starburst_common.local import change_key, local_backend
from starburst_common.model import FleetId, RunId, WorkerId, WorkerPhase
from starburst_common.names import RunNames, account
from starburst_common.ports import Backend
from starburst_common.runs.monthly import Monthly
from starburst_common.runs.prune import store_time
from starburst_common.runs.standing import held_fleets
from starburst_common.sites.site import Site
from starburst_common.wire.documents import open_document
from starburst_common.wire.keys import MOST_KEYS, KeyRing, key_id, keys_in, secret_of
from starburst_common.wire.seals import seal, seal_text, unseal, unseal_text
from tests.places import aws_text, local_text, open_place
from tests.policies import allow
from tests.test_cli import Shell
from tests.test_gc import FLEET, OTHERS, OURS, living, started, tagged
from tests.testbed import definitions
from tests.testbed.bed import Bed as Aws

CHANGES = ["ssm:PutParameter", "secretsmanager:PutSecretValue"]  #: who sets sites up may
OLD, NEW = b"old" * 11, b"new" * 11


class Place:
    """Where keys are changed: opened anew as by another process."""

    def __init__(self, text: str, change: Callable[[bool], int]) -> None:
        self.text, self.change = text, change  # what `open_place` opens
        self._open: list[Backend] = []

    def open(self) -> Backend:
        self._open.append(open_place(self.text))
        return self._open[-1]

    def close(self) -> None:
        for each in self._open:
            each.close()


@pytest.fixture(params=["local", "secret", "parameter"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """This machine, and the bed with a key in either of AWS's services."""
    if request.param == "local":
        home = tmp_path / "home"
        opened = Place(local_text(home), lambda revoke: change_key(home, revoke=revoke))
    else:
        aws: Aws = request.getfixturevalue("aws")
        if request.param == "secret":
            made = aws.boto("secretsmanager").create_secret(
                Name="mine", SecretString='{"a": "b", "key": "%s"}' % ("k" * 40)
            )
            arn = f"{made['ARN']}:key::"
        else:
            aws.boto("ssm").put_parameter(Name="mine", Value="k" * 40, Type="SecureString")  # as ARNs are alike
            arn = "arn:aws:ssm:us-east-1:123456789012:parameter/mine"
        site = {**aws.site, "signing_secret": arn}
        aws.grant(site)
        allow(aws, CHANGES, arn.removesuffix(":key::"), user="driver")
        opened = Place(
            aws_text(site),
            lambda revoke: change_on_aws(Site.of(site, "here"), revoke=revoke, tell=print),
        )
    yield opened
    opened.close()


def waits(gate: str) -> str:
    """An item that ends once a file is there."""
    while not Path(gate).exists():
        time.sleep(0.02)
    return gate


def test_a_run_under_way_goes_on_by_its_own_key(place: Place, tmp_path: Path) -> None:
    """Its driver, who knows of no change, replaces a worker; another process sees and reads it; a new run is new."""
    gate, first = str(tmp_path / "gate"), place.open()
    with Cluster(backend=first, workers=1, progress=False) as cluster:
        run = cluster.start(waits, [gate] * 3, chunk_size=1)
        fleet, worker = working(first)
        assert place.change(False) == 1
        second = place.open()
        assert second.key != first.key and keys_in(bytes(first.key)) == [first.key]
        assert attach(run.id, backend=second).status().state is RunState.RUNNING
        with Cluster(backend=second, workers=1, progress=False) as later:
            newer = later.start(abs, [-1])
            assert newer.results() == [1]
        first.compute.stop(fleet, [worker], grace_s=0)  # its driver launches another, which is told both keys
        Path(gate).touch()
        assert run.results() == [gate] * 3
    assert attach(run.id, backend=second).results() == [gate] * 3
    assert _signs(second, run.id, first.key) and _signs(second, newer.id, second.key)
    with pytest.raises(Refused, match="not signed with this site's key"):
        _signs(second, newer.id, bytes(first.key))


def working(backend: Backend) -> tuple[FleetId, WorkerId]:
    """The fleet, and its one worker once it is at work."""
    while True:
        for fleet in backend.compute.fleets():
            for worker in backend.compute.workers(fleet):
                if worker.phase is WorkerPhase.RUNNING:
                    return fleet, worker.id
        time.sleep(0.02)


def _signs(backend: Backend, run: RunId, key: bytes) -> bool:
    about = RunNames(run).spec
    unseal(bytes(key), about, backend.store.get(about))
    return True


_DIES = """
import sys, time
from pathlib import Path
from starburst_common import Cluster
from tests.policies import allow
from tests.places import open_place

def waits(gate):
    while not Path(gate).exists():
        time.sleep(0.02)
    return gate

backend = open_place(sys.argv[1])
run = Cluster(backend=backend, workers=1, progress=False).__enter__().start(waits, [sys.argv[2]] * 2, chunk_size=1)
while not run.status().workers:
    time.sleep(0.02)
print(run.id, flush=True)
time.sleep(600)
"""


def test_who_attaches_drives_on_by_the_run_s_key(place: Place, tmp_path: Path) -> None:
    """Its driver was killed; its worker, which knows the old key alone, answers, and so its end is signed by that."""
    gate, first = str(tmp_path / "gate"), place.open()
    with subprocess.Popen([sys.executable, "-c", _DIES, place.text, gate], stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        run = RunId(driver.stdout.readline().strip())
        driver.kill()
    assert place.change(False) == 1
    second = place.open()
    held = attach(run, backend=second)
    Path(gate).touch()
    assert held.results() == [gate] * 2
    held.wait()
    assert _signs(second, run, first.key)
    end = RunNames(run).end
    unseal(bytes(first.key), end, second.store.get(end))  # whoever knows the old key alone can read how it ended


def test_a_key_that_is_revoked_is_known_no_more(place: Place) -> None:
    """Its runs are told as damaged, new ones work, and shared values are sealed anew."""
    first = place.open()
    with Cluster(backend=first, workers=1, progress=False) as cluster:
        run = cluster.start(abs, [-1])
        run.results()
    assert place.change(True) == 0
    second = place.open()
    assert attach(run.id, backend=second).status().state is RunState.DAMAGED
    value = share(b"x" * 1000)
    with Cluster(backend=second, workers=1, progress=False) as cluster:
        assert cluster.map(lambda item: len(value.value) + item, [1]) == [1001]


def test_who_lives_on_learns_of_a_newer_key(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a triggerer does that was there before: it reads a run of another process that has the new one."""
    first = place.open()
    place.change(False)
    second = place.open()
    with Cluster(backend=second, workers=1, progress=False) as cluster:
        run = cluster.start(abs, [-1])
        assert run.results() == [1]
    monkeypatch.setattr("starburst_common.wire.keys._LOOK_S", 0.0)
    assert attach(run.id, backend=first).results() == [1]


def test_eight_keys_are_known_and_two_who_change_at_once_lose_none(tmp_path: Path) -> None:
    """The oldest goes first; the newest signs. None goes that is not among those that may."""
    home = tmp_path / "home"
    first = local_backend(home)
    assert [change_key(home, revoke=False) for _ in range(7)] == [1, 2, 3, 4, 5, 6, 7]
    with pytest.raises(Unavailable, match="somebody else has changed the key meanwhile: nothing was changed"):
        change_key(home, revoke=False, agreed=[])
    assert [change_key(home, revoke=False, agreed=[first.key]), change_key(home, revoke=False)] == [7, 7]
    last = local_backend(home)
    assert isinstance(last.key, KeyRing) and last.key.older == MOST_KEYS - 1
    assert first.key not in [*last.key.others()] and first.key == last.key.retired[1].key
    first.close(), last.close()


def test_what_cost_was_told_of_by_a_key_that_went_counts_still(place: Place) -> None:
    """As far as it was there before: what is written by that key later is nobody's, and a run's own are never read."""
    first = place.open()
    with Cluster(backend=first, workers=1, progress=False) as cluster:
        run = cluster.start(abs, [-1])
        run.results()
    assert place.change(True) == 0
    second = place.open()
    (before,) = costs(backend=second, by="site")
    assert (before.runs, before.items) == (1, 1)
    key = account(run.id)
    body, at = bytes(second.store.get(key)), second.store.written_at(key)
    assert isinstance(second.key, KeyRing) and at <= second.key.retired[0].until
    with pytest.raises(Unsigned):
        open_document(second.key, key, body)
    while store_time(second) <= second.key.retired[0].until:
        time.sleep(0.1)
    second.store.put(key, body)  # as who has the old key could write another
    assert costs(backend=second, by="site") == []


def test_the_ninth_says_what_goes_with_the_oldest(tmp_path: Path) -> None:
    """It asks where something depends on that; else it is said alone. Nothing is changed before."""
    shell = Shell(tmp_path)
    assert shell("map", "math:sqrt", "-i", "-", "--workers", "1", stdin="4\n").returncode == 0
    assert [change_key(shell.home, revoke=False) for _ in range(7)][-1] == 7
    before = _local_key(shell)
    refused = shell("rotate-key")
    assert refused.returncode == 2 and _local_key(shell) == before
    (run,) = json.loads(shell("runs", "--json").stdout)
    said = f"8 keys are known, as many as there may be: the oldest is forgotten\nreadable no more: 1 run: {run['id']}:"
    assert refused.stderr.startswith(said), refused.stderr
    assert "error: nobody can be asked here: say --yes, or --dry-run to see what ends" in refused.stderr
    seen = json.loads(shell("rotate-key", "--dry-run", "--json").stdout)
    expected = {"changed": False, "older": 7, "forgotten": 1, "unreadable": [run["id"]], "fleets": []}
    assert seen == expected and _local_key(shell) == before
    assert json.loads(shell("rotate-key", "--yes", "--json").stdout) == {**expected, "changed": True}
    tenth = shell("rotate-key")
    assert tenth.returncode == 0 and "nothing that goes on, or is kept, is signed by what is forgotten" in tenth.stderr
    assert json.loads(shell("costs", "--json").stdout)["rows"][0]["runs"] == 1


def warm(place: Backend) -> FleetId:
    """A fleet that stays without anybody, and has a worker."""
    starburst_map(abs, [-1], workers=1, keep_warm=600, backend=place, progress=False)
    (fleet,) = [each.id for each in held_fleets(place) if not each.unsigned]
    return fleet


def test_a_fleet_whose_key_is_gone_is_seen_and_stopped(aws: Aws, tmp_path: Path) -> None:
    """Where who revoked it did not get to it: by what ECS says of its workers, so that no other's task is stopped."""
    rotating = Rotating(aws, tmp_path)
    first = open_place(rotating.text)
    fleets = [warm(first)]
    (theirs,) = definitions.run(aws, definitions.define(aws), startedBy=fleets[0])
    rotating.put(secret_of([NEW]))
    second = open_place(rotating.text)
    fleets.append(warm(second))
    rotating.put(secret_of([OLD]))
    told = json.loads(rotating.shell("fleets", "--json").stdout)
    assert [(each["id"], each["workers"], each["key_valid"]) for each in told] == [(each, 1, False) for each in fleets]
    shown = rotating.shell("fleets").stdout
    assert shown.count("nobody: its key is no longer valid") == 2, shown
    told = rotating.shell("status").stdout
    assert "fleets   2 whose key is no longer valid: starburst fleets stop\nworkers  2 alive" in told, told
    assert rotating.shell("fleets", "stop", fleets[0]).stdout == f"{fleets[0]}: stopped, 1 worker\n"
    alive = {task["started_by"]: task for task in aws.tasks() if task["desired_status"] == "RUNNING"}
    assert {*alive} == {*fleets} and alive[fleets[0]]["arn"] == theirs
    done = rotating.shell("gc", "--older-than", "0s", **aws.as_user("operator"))
    assert f"a worker of {fleets[1]}, whose key is known no more" in done.stdout, done.stderr
    alive = {task["started_by"]: task for task in aws.tasks() if task["desired_status"] == "RUNNING"}
    assert {*alive} == {fleets[0]}
    assert rotating.shell("gc", "--older-than", "0s", **aws.as_user("operator")).returncode == 0
    assert rotating.shell("fleets", "--json").stdout.strip() == "[]"
    first.close(), second.close()


def test_to_revoke_keys_ends_what_they_signed(aws: Aws, tmp_path: Path) -> None:
    """A run that goes on, and a warm fleet: shown first, then stopped, and what both cost is in the sums.

    Another site's worker in the same cluster, whose key this one's secret never had, goes on.
    """
    rotating, gate = Rotating(aws, tmp_path), str(tmp_path / "gate")
    theirs = started(aws, tagged(aws, OTHERS, "b"), FLEET, '{"key": "0a1b2c3d"}')
    mine = started(aws, tagged(aws, OURS, "bed"), FLEET, '{"key": "0a1b2c3d"}')  # of a launch that nobody wrote down
    first = open_place(rotating.text)
    fleet = warm(first)
    with Cluster(backend=first, workers=1, progress=False) as cluster:
        run = cluster.start(waits, [gate])
        working(first)
        seen = rotating.shell("rotate-key", "--revoke", "--dry-run")
        assert (seen.returncode, rotating.keys()) == (0, [first.key]) and run.status().state is RunState.RUNNING
        assert (
            f"cancelled: 1 run: {run.id}\nstopped: 2 fleets: " in seen.stderr
            and "readable no more: 2 runs" in seen.stderr
        )
        assert seen.stdout == "site bed: a new key would sign from now on; no other is known\n"
        assert rotating.shell("rotate-key", "--revoke").returncode == 2
        done = json.loads(rotating.shell("rotate-key", "--revoke", "--yes", "--json").stdout)
        assert done["changed"] and len(done["fleets"]) == 2 and fleet in done["fleets"] and run.id in done["unreadable"]
        assert run.wait(120).state is RunState.CANCELLED
    assert living(aws) == {theirs} and mine != theirs
    assert rotating.shell("fleets", "--json").stdout.strip() == "[]"
    second = open_place(rotating.text)
    assert attach(run.id, backend=second).status().state is RunState.DAMAGED
    sums, _ = costs(backend=second, by="site")  # and what the fleet cost while no run had it
    assert sums.runs == 2 and sums.usd > 0
    month = Monthly.of(replace(second, monthly_budget=("*: 100",)), None, {}, ())
    assert month is not None and month.tightest().usd > 0 and month.tightest().runs == 2
    first.close(), second.close()


def test_processes_that_change_it_at_once_lose_none_here(tmp_path: Path) -> None:
    """Each of their keys is known afterwards, and the one that was there."""
    shell = Shell(tmp_path)
    before = keys_in(_local_key(shell))
    every = [shell.start("rotate-key") for _ in range(4)]
    assert [each.wait(60) for each in every] == [0] * 4
    for each in every:
        each.communicate()
    keys = keys_in(_local_key(shell))
    assert len({*keys}) == 5 and keys[-1:] == before


def _local_key(shell: Shell) -> bytes:
    local_backend(shell.home).close()
    return (shell.home / "signing.key").read_bytes()


class Rotating:
    """A site whose key is changed by processes of its own, while a run goes on."""

    def __init__(self, aws: Aws, folder: Path) -> None:
        aws.boto("ssm").put_parameter(Name="/mine", Value="k" * 40, Type="SecureString")
        arn = "arn:aws:ssm:us-east-1:123456789012:parameter/mine"
        self.aws, self.text = aws, aws_text({**aws.site, "signing_secret": arn})
        (folder / "config.toml").write_text(aws.settings(signing_secret=arn))
        allow(aws, CHANGES, arn, user="driver")
        self.shell = Shell(folder, env={**aws.env, "STARBURST_CONFIG": str(folder / "config.toml")})

    def put(self, secret: str) -> None:
        """As somebody does who is then stopped."""
        self.aws.boto("ssm").put_parameter(Name="/mine", Value=secret, Type="SecureString", Overwrite=True)

    def keys(self) -> list[bytes]:
        """All that are known, the newest first."""
        found = self.aws.boto("ssm").get_parameter(Name="/mine", WithDecryption=True)
        return keys_in(found["Parameter"]["Value"].encode())

    def calls(self) -> int:
        """So many does one change make."""
        self.aws.requests(reset=True)
        assert self.shell("rotate-key").returncode == 0
        return sum(self.aws.requests(reset=True).values())

    def at(self, call: int, *, killed: bool) -> None:
        """Two change it, of which the first comes to a call, and waits there or dies: no known key is lost."""
        before = self.keys()
        self.aws.fault(skip=call, delay_s=30.0 if killed else 2.0)
        first = self.shell.start("rotate-key")
        self.aws.until(lambda: self.aws.faults()[0]["hits"] or first.poll() is not None)
        if killed:
            first.kill()
            first.communicate()
        second = self.shell("rotate-key")
        self.aws.clear_faults()
        first.communicate()
        after = self.keys()
        assert second.returncode == 0, second.stderr
        new = len(after) - len(before)
        assert after[new:] == before[: len(after) - new]
        assert new == 2 or (killed and new == 1) or len(after) == MOST_KEYS


def test_two_commands_at_once_lose_no_key_in_use(aws: Aws, tmp_path: Path) -> None:
    """One comes after the other, while a run goes on, which ends by its own key and is read by all."""
    rotating, gate = Rotating(aws, tmp_path), str(tmp_path / "gate")
    first = open_place(rotating.text)
    with Cluster(backend=first, workers=1, progress=False) as cluster:
        run = cluster.start(waits, [gate])
        working(first)
        both = [rotating.shell.start("rotate-key") for _ in range(2)]
        told = [each.communicate()[0] for each in both]
        assert [each.returncode for each in both] == [0, 0], told
        assert len(rotating.keys()) == 3 and rotating.keys()[-1] == first.key
        Path(gate).touch()
        assert run.results() == [gate]
    second = open_place(rotating.text)
    assert attach(run.id, backend=second).results() == [gate]
    first.close(), second.close()


@pytest.mark.rest
@pytest.mark.parametrize("killed", [False, True])
def test_two_commands_at_once_at_every_step(aws: Aws, tmp_path: Path, killed: bool) -> None:
    """Whichever call the first is at, waits or dies there; the second of two may wait for the first."""
    rotating = Rotating(aws, tmp_path)
    calls = rotating.calls()
    assert calls > 5
    for call in range(calls):
        aws.boto("ssm").put_parameter(Name="/mine", Value="k" * 40, Type="SecureString", Overwrite=True)
        rotating.at(call, killed=killed)


def test_what_is_signed_by_any_known_key_is_taken_and_nothing_else() -> None:
    """Sealed objects and messages; a list of keys that is cut is refused, not taken for a key."""
    ring = KeyRing.of(secret_of([NEW, OLD]).encode())
    assert ring == NEW and ring.older == 1 and ring.named(key_id(OLD)) == OLD and ring.named("00000000") is None
    for key in (NEW, OLD):
        assert bytes(unseal(ring, "a", seal(key, "a", [b"x"]))) == b"x"
        assert unseal_text(ring, "a", seal_text(key, "a", "x")) == "x"
    for known in (ring, ring.signing(OLD), NEW):
        with pytest.raises(Refused):
            unseal(known, "a", seal(b"x" * 32, "a", [b"x"]))
        with pytest.raises(Refused):
            unseal(known, "b", seal(NEW, "a", [b"x"]))
    assert seal(ring.signing(OLD), "a", [b"x"]) == seal(OLD, "a", [b"x"])
    for cut in ("starburst-keys:1", "starburst-keys:1 abc", "starburst-keys:1 00", f"{secret_of([NEW])} zz"):
        with pytest.raises(Refused, match="the signing secret is malformed"):
            KeyRing.of(cut.encode())


def test_a_fleet_that_idles_under_the_key_before_is_named(tmp_path: Path) -> None:
    """No new run finds it; `fleets stop` ends it before it is warm no more."""
    shell, place = Shell(tmp_path), local_backend(tmp_path / "home")
    starburst_map(abs, [-1], workers=1, keep_warm=600, backend=place, progress=False)
    (fleet,) = json.loads(shell("fleets", "--json").stdout)
    changed = shell("rotate-key")
    assert f"kept warm, where no new run finds it: 1 fleet: {fleet['id']}" in " ".join(changed.stderr.split())
    assert shell("fleets", "stop", fleet["id"]).returncode == 0
    assert "kept warm" not in shell("rotate-key").stderr
    place.close()


def test_the_command_changes_the_key_here_and_of_a_site(tmp_path: Path, aws: Aws) -> None:
    """In a line; to revoke the others it asks first; a version of a secret cannot be changed."""
    shell = Shell(tmp_path)
    assert shell("rotate-key").stdout == f"{shell.home}: a new key signs from now on; 1 older is still known\n"
    assert shell("rotate-key", "--revoke").returncode == 2
    told = {"changed": True, "older": 0, "forgotten": 2, "unreadable": [], "fleets": []}
    assert json.loads(shell("rotate-key", "--revoke", "--yes", "--json").stdout) == told
    secret = aws.boto("secretsmanager").create_secret(Name="mine", SecretString="k" * 40)["ARN"]
    config = tmp_path / "config.toml"
    config.write_text(aws.settings(signing_secret=secret))
    allow(aws, CHANGES, secret, user="driver")
    there = Shell(tmp_path, env={**aws.env, "STARBURST_CONFIG": str(config)})
    assert there("rotate-key").stdout == "site bed: a new key signs from now on; 1 older is still known\n"
    assert "signing key: 64 bytes, in secretsmanager, and 1 older\n" in there("doctor").stdout
    aws.boto("secretsmanager").put_secret_value(SecretId=secret, SecretString="starburst-keys:1 zz")
    assert (there("rotate-key").returncode, there("rotate-key", "--revoke", "--yes").returncode) == (2, 0)
    assert "signing key: 64 bytes, in secretsmanager\n" in there("doctor").stdout
    site = Site.of({**aws.site, "signing_secret": f"{secret}::AWSCURRENT:"}, "here")
    with pytest.raises(BadInput, match="it names a stage or a version"):
        change_on_aws(site, revoke=False, tell=print)
