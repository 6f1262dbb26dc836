"""Requirements files in; exact requirements with hashes out."""

from __future__ import annotations

import codecs
import importlib.metadata
import re
import tempfile
from dataclasses import replace
from pathlib import Path

from packaging.requirements import Requirement

from starburst_common.environment import freeze
from starburst_common.environment.asked import Asked
from starburst_common.environment.lines import OURS, is_file, logical_lines, requirement, sort_out
from starburst_common.environment.projects import PROJECT, listed_by
from starburst_common.environment.resolve import Unsatisfiable, compile_near
from starburst_common.errors import BadInput, StarburstError
from starburst_common.toml import toml

_INCLUDE = re.compile(r"(-r|-c|--requirement|--constraint)[\s=]*(.+)")
_OPERAND = re.compile(r"""(-[-\w]+)(\s*=\s*|\s+)(["'])(.*)\3""")
_OUT = ". Lock it with its own tool, or list what your function imports in a requirements.txt"
_LINKS = re.compile(r"(?:-f|--find-links)[\s=]+(.+)")
_EDITABLE_GIT = re.compile(r"(?:-e|--editable)[\s=]+(git\+[^\s#]+)#(\S+)(.*)")
#: What conda's packages say of where they were built, and what conda itself reads: `name=version=build`.
_FROM_FILE, _CONDA = re.compile(r"([\w.-]+)(\[.*])?\s*@\s*file:([^\s;#]+)"), re.compile(r"(\w[\w.-]*)=[^=\s]+(=\w+)?")


def files(path: Path) -> list[Path]:
    """The file, those it includes, and what says the needs of the projects that it names. Raises `BadInput`."""
    if path.name in PROJECT:
        return [path, *(file for name in PROJECT if is_file(file := path.parent / name) and file != path)]
    included = _included(path)
    paths = _named_paths([line for lines in included.values() for line in lines])
    folders = sort_out("\n".join(paths), python="3").folders
    projects = [(path.parent / folder.split("[")[0]).resolve() for folder in folders]
    return [*included, *(file for folder in projects for name in PROJECT if is_file(file := folder / name))]


def read(path: Path, python: str, asked: Asked) -> str:
    """Files whose lines are all exact, with hashes, are taken as they are; else uv resolves, near what is installed."""
    if path.name in PROJECT:
        if (listed := listed_by(path, asked)) is None:
            return resolved([path.name], path, python, asked)
        with tempfile.TemporaryDirectory() as temporary:
            Path(temporary, "requirements.txt").write_text("\n".join(listed), encoding="utf-8")
            return resolved([f"{temporary}/requirements.txt"], path, python, replace(asked, extras=()))
    if asked.groups or asked.extras:
        raise BadInput(f"{path}: a requirements file has no groups and no extras")
    if all_exact(path):
        return "\n".join(line for lines in _included(path).values() for line in lines)
    return read_lines(path, lines_of(path), python, asked)


def read_lines(path: Path, lines: list[str], python: str, asked: Asked) -> str:
    """The lines for pip that are in a file, resolved."""
    _refuse_built_elsewhere(path, [*lines, *(line for each in included_by(path, lines) for line in lines_of(each))])
    with tempfile.TemporaryDirectory() as temporary:
        whole = _whole(path, lines, Path(temporary))
        try:
            return resolved([str(whole)], path, python, asked)
        except StarburstError as error:
            raise type(error)(str(error).replace(str(whole), str(path))) from None


def resolved(sources: list[str], path: Path, python: str, asked: Asked) -> str:
    """What uv makes of files of whatever kind it reads, named as seen from a path's folder."""
    options = [f"--extra={extra}" for extra in asked.extras] + [f"--group={group}" for group in asked.groups]
    options += asked.options
    near = freeze.versions(freeze.installed())
    with tempfile.TemporaryDirectory() as temporary:
        ours = Path(temporary, "requirements.txt")
        ours.write_text("\n".join(_own_extras(path)))
        sources = [*sources, *([str(ours)] if ours.stat().st_size else [])]
        try:
            return compile_near(sources, folder=path.parent, python=python, near=near, options=options)
        except BadInput as error:
            way = "" if isinstance(error, Unsatisfiable) or path.name not in PROJECT else _OUT
            raise BadInput(f"{path}: {error}{way}") from None


def all_exact(path: Path) -> bool:
    """Whether there is nothing left to choose, and so nothing to ask an index."""
    lines = [line for lines in _included(path).values() for line in lines]
    if any(line.startswith(("-c", "--constraint")) or _named_paths([line]) for line in lines):
        return False
    plain = [line for line in lines if not line.startswith("-")]
    return all("--hash" in line and re.match(r"[^;@]*==\s*[^\s*]+(\s|$)", line) for line in plain)


def _own_extras(path: Path) -> list[str]:
    """What the extras of ours that were asked for need: the user's code may, too."""
    if path.name in PROJECT:
        project = path.parent / "pyproject.toml"
        texts = toml(project).get("project", {}).get("dependencies", []) if is_file(project) else []
    else:
        texts = [line.split(" --")[0] for line in lines_of(path) if not line.startswith("-")]
    asked = {
        extra
        for text in texts
        if re.match("starburst[-_.]ecs", text, re.IGNORECASE)
        for extra in requirement(text).extras
    }
    own = map(Requirement, importlib.metadata.requires(OURS) or []) if asked else ()
    return [
        f"{each.name}{each.specifier}"
        for each in own
        if each.marker and not each.marker.evaluate() and any(each.marker.evaluate({"extra": one}) for one in asked)
    ]


def lines_of(path: Path) -> list[str]:
    """A requirements file's logical lines, in whatever encoding its first bytes name, as uv understands them.

    Raises `BadInput`.
    """
    try:
        data = path.read_bytes()
        told = _CODING.match(data)  # as in Python's own files
        said = told[1].decode() if told else "utf-8"
        text = data.decode(next((name for name, mark in _MARKS.items() if data.startswith(mark)), said))
        if "\0" in text:
            raise ValueError("no text")
    except OSError as error:
        raise BadInput(f"{path}: {error}") from None
    except (ValueError, LookupError) as error:
        raise BadInput(f"{path}: not UTF-8, as requirements files are: {error}: save it so") from None
    return [_as_uv_has_it(line, path.parent) for line in logical_lines(text)]


def place(where: str, folder: Path) -> str:
    """A page of links, or a folder of files, as seen from anywhere."""
    return where if "://" in where else str((folder / where).resolve())


_MARKS = {
    "utf-8-sig": codecs.BOM_UTF8,
    "utf-32": codecs.BOM_UTF32_LE,
    "UTF-32": codecs.BOM_UTF32_BE,
    "utf-16": codecs.BOM_UTF16_LE,
    "UTF-16": codecs.BOM_UTF16_BE,  # the former begins that of UTF-32 too
}
_CODING = re.compile(rb"(?:[^\n]*\n)?[ \t]*#[^\n]*?coding[:=][ \t]*([-\w.]+)")


def _as_uv_has_it(line: str, folder: Path) -> str:
    """Operands without quotes; what is editable in a repository, as pip freezes it, as the commit that it is.

    >>> _as_uv_has_it("-e git+https://host/x@1a2b#egg=x&subdirectory=y", Path())
    'x @ git+https://host/x@1a2b#subdirectory=y'
    >>> _as_uv_has_it("-f 'my files'", Path("/work"))
    '--find-links /work/my files'
    """
    if found := _OPERAND.fullmatch(line):
        line = f"{found[1]} {found[4]}"
    if found := _LINKS.fullmatch(line):
        return f"--find-links {place(found[1], folder)}"
    if found := _EDITABLE_GIT.fullmatch(line):
        words = dict(word.partition("=")[::2] for word in found[2].split("&"))
        if egg := words.pop("egg", ""):
            rest = "&".join(f"{name}={value}" for name, value in words.items())
            return f"{egg} @ {found[1]}{'#' if rest else ''}{rest}{found[3]}"
    return line


def included_by(path: Path, lines: list[str]) -> list[Path]:
    """The files that lines in a file include, and those that these do. Raises `BadInput`."""
    return list(dict.fromkeys(each for _, target in _targets(path, lines) for each in _included(target)))


def _included(path: Path) -> dict[Path, list[str]]:
    """The lines of a file, and of those that it includes."""
    found, left = dict[Path, list[str]](), [path]
    while left:
        each = left.pop(0)
        if each not in found:
            found[each] = lines_of(each)
            left += [target for _, target in _targets(each, found[each])]
    return found


def _whole(path: Path, lines: list[str], folder: Path) -> Path:
    """A file with the lines of those that it includes in their place, as uv can read it, written into a folder."""
    seen, out = {path}, list[str]()

    def take(file: Path, lines: list[str]) -> None:
        for line in lines:
            if not (targets := _targets(file, [line])):
                out.append(line)
            for option, target in targets:
                if "c" in option.lstrip("-")[:1]:
                    out.append(f"-c {_whole(target, lines_of(target), Path(tempfile.mkdtemp(dir=folder)))}")
                elif target not in seen:
                    seen.add(target)
                    take(target, lines_of(target))

    take(path, lines)
    whole = folder / "requirements.txt"
    whole.write_text("\n".join(out), encoding="utf-8")
    return whole


def _targets(path: Path, lines: list[str]) -> list[tuple[str, Path]]:
    found = [(each[1], each[2]) for line in lines if (each := _INCLUDE.fullmatch(line)) and "://" not in each[2]]
    return [(option, (path.parent / target).resolve()) for option, target in found]


def _refuse_built_elsewhere(path: Path, lines: list[str]) -> None:
    found = [match for line in lines if (match := _FROM_FILE.match(line))]
    names = [match[1] for match in found if not Path(re.sub("^/*", "/", match[3])).exists()]
    names += [match[1] for line in lines if (match := _CONDA.fullmatch(line))]
    if names:
        raise BadInput(
            f"{path}: named as conda does, or by where they were built, which is not on this machine: "
            f"{', '.join(names)}. `pip list --format=freeze > {path.name}` writes the versions"
        )


def _named_paths(lines: list[str]) -> list[str]:
    return [line for line in lines if re.match(r"-e|--editable|[./]|file:|\S+/$|[^@]+@\s*(file:|[./])", line)]
