"""What is kept on this machine is its user's alone; what others could have written is refused, with the way out."""

from __future__ import annotations

import logging
import os
import stat
import struct
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from starburst_common import Cluster
from starburst_common.code.files import Piece, module_at
from starburst_common.config import ImageSettings, settings
from starburst_common.environment.find import find_environment
from starburst_common.errors import BadInput
from starburst_common.image.blob import LayerCache
from starburst_common.local import local_backend
from starburst_common.outside import config_file
from starburst_common.ports import Backend
from tests.leftovers import nothing_left
from tests.places import environment

_NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be a second user")


def double(item: int) -> int:
    """Twice the item."""
    return item * 2


def opened(home: Path) -> Backend:
    """The backend in a home, with nothing kept open."""
    backend = local_backend(home)
    backend.close()
    return backend


def mode(path: Path) -> int:
    """Its permissions."""
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022])
def test_what_a_run_leaves_is_its_users_alone(umask: int, tmp_path: Path) -> None:
    """Whatever the umask, no file and no folder of a home can be entered, read or written by others."""
    home = tmp_path / "new" / "home"
    tmp_path.chmod(0o700)
    before = os.umask(umask)
    try:
        backend = local_backend(home)
        seen: set[Path] = set()
        with Cluster(workers=1, backend=backend, progress=False) as cluster:
            for _ in cluster.start(double, range(200), chunk_size=50).iter_completed():
                seen |= {path for path in home.rglob("*") if open_to_others(path)}
        assert seen == set()
        assert [path for path in (home.parent, home, *home.rglob("*")) if open_to_others(path)] == []
    finally:
        os.umask(before)
    nothing_left(backend)


def open_to_others(path: Path) -> bool:
    """Whether group or others have any right; not if it has gone meanwhile, or is Python's own, in a folder of ours."""
    try:
        return bool(mode(path) & 0o077) and "__pycache__" not in path.parts
    except FileNotFoundError:
        return False


def test_a_home_that_others_can_read_is_closed_to_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A home of an earlier release is tightened at its first use, which is said once."""
    home = tmp_path / "home"
    opened(home)
    home.chmod(0o755)
    with caplog.at_level(logging.WARNING, "starburst"):
        opened(home)
        opened(home)
    assert mode(home) == 0o700
    assert [record.getMessage() for record in caplog.records] == [
        f"{home} could be read by others: it is now yours alone (mode 700)"
    ]


def writable_home(home: Path) -> Path:
    home.chmod(0o770)
    return home


def writable_store(home: Path) -> Path:
    (home / "store").chmod(0o702)
    return home


def writable_key(home: Path) -> Path:
    (home / "signing.key").chmod(0o660)
    return home


def writable_queue(home: Path) -> Path:
    (home / "queue.sqlite3").chmod(0o606)
    return home


def empty_key(home: Path) -> Path:
    (home / "signing.key").write_bytes(b"")
    return home


def short_key(home: Path) -> Path:
    (home / "signing.key").write_bytes(b"x" * 31)
    return home


def linked_key(home: Path) -> Path:
    (home / "signing.key").rename(home / "elsewhere")
    (home / "signing.key").symlink_to("elsewhere")
    return home


def piped_key(home: Path) -> Path:
    (home / "signing.key").unlink()
    os.mkfifo(home / "signing.key", 0o600)
    return home


def writable_above(home: Path) -> Path:
    home.parent.chmod(0o707)
    return home


def given_away(home: Path) -> Path:
    os.chown(home, _NOBODY, -1)
    return home


def key_given_away(home: Path) -> Path:
    os.chown(home / "signing.key", _NOBODY, -1)
    return home


def queue_given_away(home: Path) -> Path:
    os.chown(home / "queue.sqlite3", _NOBODY, -1)
    return home


def anothers_folder_above(home: Path) -> Path:
    os.chown(home.parent, _NOBODY, -1)
    return home


def anothers_link(home: Path) -> Path:
    link = home.parent / "link"
    link.symlink_to(home)
    os.chown(link, _NOBODY, -1, follow_symlinks=False)
    return link


def anothers_link_on_the_way(home: Path) -> Path:
    link = home.parent / "link"
    link.symlink_to(home.parent)
    os.chown(link, _NOBODY, -1, follow_symlinks=False)
    mine = home.parent / "mine"
    mine.symlink_to(link / "home")
    return mine


@pytest.mark.parametrize(
    ("attempt", "said"),
    [
        (writable_home, "home may be written by the group"),
        (writable_store, "store may be written by everybody"),
        (writable_key, "signing.key may be written by the group"),
        (writable_queue, "queue.sqlite3 may be written by everybody"),
        (empty_key, "signing.key has 0 bytes, and a key has 32 at least"),
        (short_key, "signing.key has 31 bytes, and a key has 32 at least"),
        (linked_key, "signing.key is a link"),
        (piped_key, "signing.key is no file"),
        (writable_above, "everybody may write it, and so replace what is in it"),
        pytest.param(given_away, "home belongs to nobody, not to root", marks=as_root),
        pytest.param(key_given_away, "signing.key belongs to nobody, not to root", marks=as_root),
        pytest.param(queue_given_away, "queue.sqlite3 belongs to nobody, not to root", marks=as_root),
        pytest.param(anothers_folder_above, "belongs to nobody, who can replace what is in it", marks=as_root),
        pytest.param(anothers_link, "link is a link that nobody made", marks=as_root),
        pytest.param(anothers_link_on_the_way, "link is a link that nobody made", marks=as_root),
    ],
)
def test_what_others_could_have_written_is_refused(attempt: Callable[[Path], Path], said: str, tmp_path: Path) -> None:
    """One sentence says what is wrong and what to do, and nothing of it is used."""
    opened(tmp_path / "home")
    found = attempt(tmp_path / "home")
    with pytest.raises(BadInput, match=said) as refused:
        opened(found)
    assert "\n" not in str(refused.value)
    assert any(way in str(refused.value) for way in ("set STARBURST_HOME", "remove the file", "chmod"))


@as_root
def test_a_second_user_gets_into_no_home() -> None:
    """To list it, to read and to write there, to move it away: each fails; and a home of his is not taken for ours."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        seen_by_a_second_user(Path(folder))


def seen_by_a_second_user(place: Path) -> None:
    home, open_place = place / "home", place / "for-all"
    opened(home)
    open_place.mkdir()
    open_place.chmod(0o1777)
    tries = f"""
import os
os.setgroups([]); os.setgid({_NOBODY}); os.setuid({_NOBODY})
def refused(what, *arguments):
    try:
        what(*arguments)
    except PermissionError:
        return
    raise SystemExit(f"{{what}} {{arguments}} was let in")
home = {str(home)!r}
refused(os.listdir, home)
for name in ("signing.key", "queue.sqlite3", "store/x", "workers/x"):
    for flags in (os.O_RDONLY, os.O_WRONLY | os.O_CREAT):
        refused(os.open, os.path.join(home, name), flags)
refused(os.rename, home, home + "-moved")
os.mkdir({str(open_place / "home")!r}, 0o700)
os.symlink({str(open_place / "home")!r}, {str(open_place / "link")!r})
"""
    subprocess.run([sys.executable, "-I", "-c", tries], check=True)
    with pytest.raises(BadInput, match="home belongs to nobody, not to root"):
        opened(open_place / "home")
    with pytest.raises(BadInput, match="link is a link that nobody made"):
        opened(open_place / "link")


def test_links_of_our_own_lead_home(tmp_path: Path) -> None:
    """A home that is a link, or lies behind one, is the home that the link names."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    first = opened(tmp_path / "link" / "home")
    (tmp_path / "short").symlink_to(tmp_path / "link" / "home")
    assert opened(tmp_path / "short").key == first.key == opened(tmp_path / "real" / ".." / "link" / "home").key
    assert mode(tmp_path / "real" / "home") == 0o700


def test_processes_that_open_a_home_first_have_one_key(tmp_path: Path) -> None:
    """Many at once make one home with one whole key, and leave no draft of another."""
    with ThreadPoolExecutor(8) as pool:
        keys = {backend.key for backend in pool.map(opened, [tmp_path / "a" / "home"] * 24)}
    assert [len(key) for key in keys] == [32]
    assert sorted(path.name for path in (tmp_path / "a" / "home").glob("signing*")) == ["signing.key"]


def test_the_command_says_so_in_one_line(tmp_path: Path) -> None:
    """The shell gets exit code 2 and one sentence."""
    home = tmp_path / "home"
    opened(home)
    home.chmod(0o777)
    done = subprocess.run(
        [sys.executable, "-m", "starburst_common.cli", "runs"],
        env={**os.environ, "STARBURST_HOME": str(home), "STARBURST_BACKEND": "local"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "may be written by everybody" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_settings_that_others_could_have_written_are_refused(tmp_path: Path) -> None:
    """The settings say what is run: a file that everybody may write is not read."""
    file = tmp_path / "config.toml"
    file.write_text('[image]\nbuild_steps = ["true"]\n')
    file.chmod(0o606)
    with environment({"STARBURST_CONFIG": str(file)}), pytest.raises(BadInput, match="everybody may write it"):
        settings()
    file.chmod(0o644)
    with environment({"STARBURST_CONFIG": str(file)}):
        assert settings().image.build_steps == ("true",)


def test_a_cache_that_others_could_have_filled_is_refused(tmp_path: Path) -> None:
    """What lies in it goes into images."""
    folder = tmp_path / "layers"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(BadInput, match="XDG_CACHE_HOME"), LayerCache(folder).work_folder():
        pass


def planted_requirements(above: Path) -> Path:
    (above / "evil").mkdir()
    (above / "evil" / "setup.py").write_text(f"open({str(above / 'marker')!r}, 'w').close()")
    return written(above / "requirements.txt", "./evil")


def planted_lock(above: Path) -> Path:
    return written(above / "uv.lock", "version = 1")


def planted_build_steps(above: Path) -> Path:
    return written(above / "pyproject.toml", '[tool.starburst.image]\nbuild_steps = ["true"]')


def planted_index(above: Path) -> Path:
    return written(above / "uv.toml", 'index-url = "http://127.0.0.1:9/simple"')


def planted_rules(above: Path) -> Path:
    (above / ".git").mkdir()
    return written(above / ".starburstignore", "!.env")


def written(file: Path, text: str) -> Path:
    file.write_text(text)
    return file


def all_that_is_looked_for(folder: Path) -> None:
    """As one does who maps a function of a module there."""
    ImageSettings().in_project(folder)
    module_at([Piece(folder / "mine.py", "mine.py")])
    find_environment(folder, cache=folder / "cache")


@pytest.mark.parametrize(
    "plant", [planted_requirements, planted_lock, planted_build_steps, planted_index, planted_rules]
)
@pytest.mark.parametrize(
    "whose", ["everybody's", pytest.param("nobody's", marks=as_root), pytest.param("nobody's link", marks=as_root)]
)
def test_what_another_put_above_a_project_says_nothing(
    plant: Callable[[Path], Path], whose: str, tmp_path: Path
) -> None:
    """What is looked for upwards says what is run, here too: whoever may write in /tmp could put it there."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "mine.py").touch()
    file = plant(tmp_path)
    if whose == "everybody's":
        file.chmod(0o666)
    elif whose == "nobody's":
        os.chown(file, _NOBODY, -1)
    else:
        file.rename(tmp_path / "elsewhere")
        file.symlink_to("elsewhere")
        os.chown(file, _NOBODY, -1, follow_symlinks=False)
    with pytest.raises(BadInput, match=f"{file.name}.* says what is run"):
        all_that_is_looked_for(folder)
    assert not (tmp_path / "marker").exists()


def test_a_file_that_is_named_is_believed_and_what_lies_above_it_is_not(tmp_path: Path) -> None:
    """To name it is to say whom one believes; uv would read settings further up all the same."""
    folder = tmp_path / "folder"
    folder.mkdir()
    named = written(folder / "requirements.txt", "")
    named.chmod(0o666)
    assert find_environment(tmp_path, requirements=named, cache=tmp_path / "cache").requirements == ()
    planted_index(tmp_path).chmod(0o666)
    with pytest.raises(BadInput, match=r"uv.toml.* says what is run"):
        find_environment(tmp_path, requirements=named, cache=tmp_path / "cache")


@as_root
def test_whose_modules_are_imported_may_say_what_they_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container, where the project belongs to a user of the machine, and root works in it."""
    steps = planted_build_steps(tmp_path)
    for path in (tmp_path, steps):
        os.chown(path, _NOBODY, -1)
        path.chmod(0o777)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert ImageSettings().in_project(tmp_path).build_steps == ("true",)
    tmp_path.chmod(0o1777)
    with pytest.raises(BadInput, match="everybody may write it"):
        ImageSettings().in_project(tmp_path)


@pytest.mark.parametrize("named", ["", "config.toml"])
def test_settings_that_others_could_replace_are_refused(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody named the file, the folders on its way count, whatever an empty variable says."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
    monkeypatch.delenv("STARBURST_CONFIG", raising=False)
    folder = config_file().parent
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text("keep_days = 1")
    folder.chmod(0o777)
    monkeypatch.setenv("STARBURST_CONFIG", named and str(folder / named))
    if named:
        assert settings().keep_days == 1
        return
    with pytest.raises(BadInput, match="everybody may write it, and so replace what is in it"):
        settings()


def test_a_right_that_only_an_acl_tells_is_seen(tmp_path: Path) -> None:
    """Where the group is the user's own, its right is none of another; the ACL behind it is."""
    opened(tmp_path / "home")
    entries = [(1, 7, 2**32 - 1), (2, 7, _NOBODY), (4, 5, 2**32 - 1), (16, 7, 2**32 - 1), (32, 5, 2**32 - 1)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *each) for each in entries)
    try:
        os.setxattr(tmp_path, "system.posix_acl_access", acl)
    except (OSError, AttributeError):
        pytest.skip("no POSIX ACLs here")
    with pytest.raises(BadInput, match="may write it"):
        opened(tmp_path / "home")


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="only Linux tells which locks there are")
def test_a_second_opening_keeps_the_locks_of_the_first(tmp_path: Path) -> None:
    """To close a file ends all locks that a process has on it: others would then take away what SQLite has mapped."""
    first = local_backend(tmp_path / "home")
    first.queue.ensure("q")

    def locks() -> list[str]:
        inodes = {str(file.stat().st_ino) for file in (tmp_path / "home").glob("queue.sqlite3*")}
        lines = (line.split() for line in Path("/proc/locks").read_text().splitlines())
        return [" ".join(line[1:]) for line in lines if line[5].rpartition(":")[2] in inodes]

    before = locks()
    assert before
    second = local_backend(tmp_path / "home")
    assert locks() == before
    second.close()
    first.close()
