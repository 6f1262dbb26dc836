"""What a build prints in; told line by line, kept whole, and its end explained if it fails, out."""

from __future__ import annotations

import re
import subprocess
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from starburst_common.errors import CannotBuild, Unavailable
from starburst_common.image.engine import EngineFailed, trouble
from starburst_common.phrases import without_credentials

_LAST_LINES = 20
_STEP_LINES = 500  #: of the step that fails, where known troubles are looked for: its errors need not come last
_DENIED = re.compile(r"unauthorized|denied|forbidden|no basic auth|authentication required", re.IGNORECASE)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_NOISE = (" --->", "Removing intermediate container", "Successfully ")  #: of the engine about its own doings
_MOVES = ("Pull complete", "Pushed", "Mounted from", "Layer already exists")  #: of an engine's, those worth a line
_COMPILER = r"\b(gcc|cc|g\+\+|c\+\+)\b"
_HINTS = {
    "exec format error": "this engine cannot run programs of that platform: install emulation "
    "(`docker run --privileged --rm tonistiigi/binfmt --install all`), or choose another builder",
    r"Python\.h: No such file": "a package needs Python's headers: add python3-dev to `system_packages`",
    r"\b(assert|errno|limits|math|stdint|stdio|stdlib|string)\.h: No such file": "the compiler lacks the C library's "
    "headers: add libc6-dev to `system_packages`",
    rf"{_COMPILER}.*(not found|No such file)|No such file.*{_COMPILER}": "a compiler is needed: add gcc and libc6-dev, "
    "or g++, to `system_packages`",
    r"(?i:git executable not found)": "a package comes from git: add git to `system_packages`",
    "no space left on device": "the engine's disk is full: make room, as with `docker system prune`",
}
Tell = Callable[[str], None]


class Told:
    """What a build says: kept whole in a file, told line by line, and its end explained if it fails."""

    def __init__(self, keep: Callable[[str], Any], tell: Tell, log: Path) -> None:
        self._keep, self._tell, self._log = keep, tell, log
        self._last = deque[str](maxlen=_LAST_LINES)
        self._step = deque[str](maxlen=_STEP_LINES)

    def line(self, text: str) -> None:
        """One line of output."""
        if not (text := without_credentials(_COLOURS.sub("", text).rstrip())):
            return
        self._keep(f"{text}\n")
        if not text.startswith(_NOISE):
            if text.startswith("Step "):
                self._step.clear()
            self._last.append(text)
            self._step.append(text)
            self._tell(text)

    def steps(self, steps: Generator[dict[str, Any]]) -> None:
        """An engine's answers. Raises `EngineFailed`."""
        unfinished = why = ""
        with closing(steps):  # an engine works while its connection is open, as a kept exception would leave it
            for step in steps:  # to their end, which follows on an error: else the connection is not given back
                if not isinstance(step, dict):
                    continue
                *lines, unfinished = (unfinished + str(step.get("stream", ""))).replace("\r", "\n").split("\n")
                status = str(step.get("status", ""))
                if status.startswith(_MOVES):
                    lines.append(f"{step.get('id', '')} {status}")
                for line in lines:
                    self.line(line)
                why = why or str(step.get("error", ""))
        self.line(unfinished)
        if why:
            raise EngineFailed(without_credentials(why))

    def command(self, command: list[str], env: dict[str, str]) -> None:
        """A program's output. Raises `CannotBuild`."""
        with subprocess.Popen(
            command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace"
        ) as program:
            try:
                for text in program.stdout or ():
                    self.line(text)
            except BaseException:
                program.terminate()
                raise
        if program.returncode:
            raise self._failed(f"{' '.join(command[:3])} ended with {program.returncode}")

    @contextmanager
    def building(self) -> Iterator[None]:
        """What goes wrong while the block builds is `CannotBuild`."""
        try:
            yield
        except trouble() as error:
            raise self._failed(str(error)) from error

    @contextmanager
    def pushing(self, image: str, there: Callable[[], bool]) -> Iterator[None]:
        """What goes wrong while the block pushes; a tag that somebody else has pushed meanwhile is as good."""
        self.line(f"pushing {image}")
        try:
            yield
        except trouble() as error:
            if there():
                return
            if _DENIED.search(str(error)):
                raise CannotBuild(
                    f"{image} cannot be pushed: {error}. Let these credentials push to that repository"
                ) from error
            raise Unavailable(f"{image} cannot be pushed: {error}. Try again") from error

    def _failed(self, why: str) -> CannotBuild:
        said, signs = "\n".join(self._last), "\n".join([*self._step, why])
        hints = [hint for sign, hint in _HINTS.items() if re.search(sign, signs)]
        end = [f"What it said is in {self._log}; it ends:", said] if said else []
        return CannotBuild("\n".join([f"the image cannot be built: {why.strip()}", *hints[:1], *end]))
