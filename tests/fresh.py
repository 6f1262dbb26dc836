"""A commit in; whether what README and docs tell a newcomer to run works there, as they stand, on one core, out.

    python3 -m tests.fresh [COMMIT] [--only README.md:37]

The commit is cloned into a temporary folder, with a home, caches, bytecode and a Prefect database of its own; downloads
alone are shared. First comes README's first command: without uv on the path, and with Prefect's server taking half a
minute longer to start, as on a slow machine. Then come README's blocks in order, and the first example of each page in
docs/. A new block is run unless a line of it is named in `NOT_RUN`. Needs nothing but Python and git.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread, Timer
from types import FrameType

from tests.blocks import Block, blocks_of

ROOT = Path(__file__).parent.parent

#: Lines that are not run, and why. A Python block with such a line is left out as a whole.
NOT_RUN = {
    "make test": "a quarter of an hour, and run for itself",
    "make test-all": "the same, for longer",
    "make testbed": "never ends; the tests use it all the time",
    'pip install ".[prefect]"': "the demo has installed it; a test installs the wheel into empty environments",
    "from airflow.providers.common.compat.sdk import DAG, task": "Airflow goes with no Prefect; its tests run it",
    "starburst replay last 4321 --debug": "asks",
    "starburst rotate-key --revoke": "asks",
    "starburst image build": "needs an account",
    "starburst image ls": "needs an account",
    "starburst image gc": "needs an account",
    "starburst image rm TAG": "needs an account",
}

#: The files that blocks name, in the folder that they are run in.
FIXTURES = {
    "mymodule.py": "def score(row):\n    return float(row['width']) * float(row['height'])\n",
    "rows.csv": "width,height\n" + "".join(f"{number},{number % 7}\n" for number in range(5_000)),
}

#: How blocks are run, by their language: a script, or the lines after a prompt, or every line.
PYTHON, CONSOLE, SHELL = ("python",), ("console",), ("sh", "bash", "shell")
#: Blocks that are to be read only.
READ = ("text", "toml", "json", "yaml", "dockerfile")

FIRST_RESULT = "First result"  #: what the demo prints then
SERVER = "prefect.server.api.server"  #: in the command line of the server that Prefect starts for a flow
HELD_S = 30.0  #: with what it takes here, more than Prefect's own limit of 20 s, as it is on a slow machine
STEP_S = 600.0  #: a step that takes longer has hung: the longest takes two minutes
GONE_S = 90.0  #: workers leave after a minute without work

#: What the caller may have set that a newcomer has not.
FOREIGN = re.compile(r"STARBURST_|PREFECT_|PYTHON|VIRTUAL_ENV|CONDA_|UV_(PROJECT|PYTHON|NO_)|XDG_|AWS_|MAKE|MFLAGS")


class Failed(Exception):
    """A step did not do what the page says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One command of a block, or a Python block as a whole."""

    block: Block
    says: str  #: what a line of the report shows of it
    command: list[str]

    def why_not(self) -> str | None:
        """The reason not to run it."""
        return next((NOT_RUN[line] for line in _lines(self.block, self.says) if line in NOT_RUN), None)


def _lines(block: Block, says: str) -> Iterable[str]:
    return map(bare, block.text.splitlines()) if block.language in PYTHON else [says]


def bare(line: str) -> str:
    """A line without the comment at its end."""
    return re.sub(r"(^|\s+)#\s.*", "", line).strip()


def steps_of(block: Block, folder: Path) -> Iterator[Step]:
    """A block in the order to run it. Scripts are written into the folder. Raises `Failed` for an unknown language."""
    if block.language in PYTHON:
        script = folder / f"{re.sub(r'[^a-z]', '_', block.page.lower())}_{block.line}.py"
        script.write_text(block.text)
        yield Step(block=block, says=f"{block.heading} (Python)", command=["python", script.name])
    elif block.language in (*CONSOLE, *SHELL):
        for line in block.text.splitlines():
            if block.language in SHELL or line.startswith("$ "):
                command = bare(line.removeprefix("$ "))
                if command:
                    yield Step(block=block, says=command, command=["bash", "-euc", command])
    elif block.language not in READ:
        known = ", ".join((*PYTHON, *CONSOLE, *SHELL, *READ))
        raise Failed(f"{block}: a block of {block.language or 'no language'}: name one of {known}")


def commit_of(name: str) -> str:
    """The commit that is meant, said aloud with what it leaves out. Raises `Failed` where there is none."""
    git = ["git", "-C", str(ROOT)]
    found = subprocess.run(
        [*git, "log", "-1", "--format=%H %h %s", name, "--"], capture_output=True, text=True, check=False
    )
    if found.returncode:
        raise Failed(f"{name}: no commit: {found.stderr.strip()}")
    commit, _, shown = found.stdout.strip().partition(" ")
    changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    print(f"Commit {shown}{' (what is not committed is left out)' if changed else ''}", flush=True)
    return commit


@dataclass(slots=True)
class Machine:
    """A machine that has never seen the project: a folder that is home, with the clone in it."""

    folder: Path
    path: list[str] = field(default_factory=list)

    @property
    def clone(self) -> Path:
        return self.folder / "starburst"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def environment(self) -> dict[str, str]:
        """Of each command: the caller's, without what a newcomer has not, and with the caller's downloads."""
        kept = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
        caches = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        shared = {"UV_CACHE_DIR": str(caches / "uv"), "PIP_CACHE_DIR": str(caches / "pip")}
        settings = Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config")) / "pip/pip.conf"
        if settings.exists():
            shared["PIP_CONFIG_FILE"] = str(settings)
        return {
            **shared,
            **kept,
            "PATH": os.pathsep.join(self.path),
            "HOME": str(self.home),
            "TMPDIR": str(self.folder / "tmp"),
            "BROWSER": "true",  # a command of that name, which shows nothing
        }

    def set_up(self, commit: str) -> None:
        """Clone, lay out what blocks name, and have no uv on the path."""
        for each in ("home", "tmp"):
            (self.folder / each).mkdir()
        commit = commit_of(commit)
        subprocess.run(["git", "clone", "--quiet", ROOT, self.clone], check=True)
        subprocess.run(["git", "-C", self.clone, "checkout", "--quiet", "--detach", commit], check=True)
        for name, text in FIXTURES.items():
            (self.clone / name).write_text(text)
        self.path = list(self._path_without_uv())

    def _path_without_uv(self) -> Iterator[str]:
        """The caller's, where a folder with uv is one of links to all else that is in it."""
        own = Path(os.environ.get("VIRTUAL_ENV", "/nowhere"), "bin")
        for number, folder in enumerate(map(Path, os.environ["PATH"].split(os.pathsep))):
            if (folder / "uv").exists() and folder != own:
                links = self.folder / f"bin{number}"
                links.mkdir()
                for each in folder.iterdir():
                    if each.name != "uv":
                        (links / each.name).symlink_to(each.absolute())
                yield str(links)
            elif folder != own:
                yield str(folder)

    def activate(self) -> None:
        """As `. .venv/bin/activate` does, once the demo has made it."""
        self.path.insert(0, str(self.clone / ".venv/bin"))

    def run(self, step: Step, seen: Callable[[str], None] = lambda line: None) -> None:
        """To its end. Raises `Failed` with its output."""
        process = subprocess.Popen(
            step.command,
            cwd=self.clone,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        hung = Event()

        def end_it() -> None:
            hung.set()
            self.kill()

        timer = Timer(STEP_S, end_it)
        timer.start()
        lines = []
        with process:
            try:
                for line in process.stdout or ():
                    lines.append(line)
                    seen(line)
            except BaseException:  # we are told to stop, and `process` would be waited for
                self.kill()
                raise
            finally:
                timer.cancel()
        if hung.is_set() or process.returncode:
            how = f"did not end within {STEP_S:.0f} s" if hung.is_set() else f"exit code {process.returncode}"
            raise Failed(
                f"{step.block}: {step.says}: {how}\n"
                f"--- the block\n{step.block.text}--- its output\n{''.join(lines)}"
                f"--- to run it alone: python3 -m tests.fresh --only {step.block}"
            )

    @contextmanager
    def server_held(self) -> Iterator[Event]:
        """Have the first server of Prefect's stand still for a while before it answers; set once that is over."""
        ended, held = Event(), Event()

        def hold() -> None:
            while not ended.wait(0.5):
                for pid, command in self.left_running().items():
                    if SERVER in command:
                        with suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGSTOP)
                            ended.wait(HELD_S)
                            os.kill(pid, signal.SIGCONT)
                        held.set()
                        return

        thread = Thread(target=hold)
        thread.start()
        try:
            yield held
        finally:
            ended.set()
            thread.join()

    def left_running(self) -> dict[int, str]:
        """The processes of this machine: those with its home. Their command lines by process id."""
        found = {}
        home = f"HOME={self.home}".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has just ended
                if home in (folder / "environ").read_bytes().split(b"\0"):
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        return found

    def kill(self) -> None:
        """End all of them."""
        for pid in self.left_running():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def end(self) -> None:
        """Wait for what is still running to end by itself. Raises `Failed` for what does not."""
        deadline = time.monotonic() + GONE_S
        while (left := self.left_running()) and time.monotonic() < deadline:
            time.sleep(0.5)
        if left:
            raise Failed("left running:\n" + "\n".join(f"{pid} {command}" for pid, command in left.items()))


def wanted(clone: Path) -> list[Block]:
    """README's blocks, and the first of each page of docs that can be run."""
    found = blocks_of(clone / "README.md", root=clone)
    for page in sorted((clone / "docs").glob("*.md")):
        found += [block for block in blocks_of(page, root=clone) if block.language not in READ][:1]
    return found


def check(machine: Machine, *, only: str | None) -> None:
    """Run every step, a line each. Raises `Failed` at the first that does not work."""
    blocks = wanted(machine.clone)
    if only is not None and only not in map(str, blocks):
        raise Failed(f"{only}: no block that is run begins there: those are {', '.join(map(str, blocks))}")
    block = next(block for block in blocks if block.language in (*CONSOLE, *SHELL))
    first = next(steps_of(block, machine.clone))
    began = time.monotonic()
    result_s: list[float] = []

    def seen(line: str) -> None:
        if line.startswith(FIRST_RESULT):
            result_s.append(time.monotonic() - began)

    with machine.server_held() as held:
        _tell(machine, first, seen)
    if not held.is_set():
        raise Failed(f"{first.block}: {first.says}: no server of Prefect's was seen to start")
    if not result_s:
        raise Failed(f"{first.block}: {first.says}: no line begins with {FIRST_RESULT!r}")
    print(f"         its first result came after {result_s[0] - HELD_S:.0f} s,", end=" ")
    print(f"and {HELD_S:.0f} s that Prefect's server was held up", flush=True)
    machine.activate()
    for block in blocks:
        if only is None or str(block) == only:
            for step in steps_of(block, machine.clone):
                if step != first:
                    _tell(machine, step)
    machine.end()


def _tell(machine: Machine, step: Step, seen: Callable[[str], None] = lambda line: None) -> None:
    shown = f"{step.block!s:<22} {step.says}"
    if why := step.why_not():
        print(f"       - {shown}: not run: {why}", flush=True)
        return
    began = time.monotonic()
    machine.run(step, seen)
    print(f"{time.monotonic() - began:6.1f} s {shown}", flush=True)


def main() -> int:
    """Say how it went, and leave nothing."""
    parser = argparse.ArgumentParser(description="Run what README and docs show, as on a new machine.")
    parser.add_argument("commit", nargs="?", default="HEAD", help="what to clone; HEAD if not given")
    parser.add_argument("--only", metavar="PAGE:LINE", help="this block alone, after README's first command")
    given = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # all that is started here stays on that core
    began = time.monotonic()
    with TemporaryDirectory(prefix="starburst-fresh-", ignore_cleanup_errors=True) as folder:
        machine = Machine(Path(folder).resolve())
        try:
            machine.set_up(given.commit)
            check(machine, only=given.only)
        except Failed as error:
            print(f"\nFAILED {error}", flush=True)
            return 1
        finally:
            machine.kill()
    print(f"{time.monotonic() - began:6.1f} s in all, on one core")
    return 0


def stop(number: int, frame: FrameType | None) -> None:
    """End, and leave nothing: a second Ctrl-C does not stop the clean-up, which takes some seconds."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    print("\nstopped: removing the clone", flush=True)
    sys.exit(128 + number)


if __name__ == "__main__":
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, stop)
    sys.exit(main())
