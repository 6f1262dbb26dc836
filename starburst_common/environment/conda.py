"""What conda, conda-lock and pixi write in; what of it comes from PyPI, as a requirements file's text, out.

conda's packages are builds of their own: the same names on PyPI would be something else. So only where nothing comes
from a channel but Python itself, and what that is built on, is a file read; else it is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from starburst_common.environment import texts
from starburst_common.environment.asked import Asked, Table, admit, admit_machines, offered, well_formed
from starburst_common.environment.exact import exact_line, relative
from starburst_common.environment.lines import MACHINES, is_file
from starburst_common.errors import BadInput
from starburst_common.phrases import one_line
from starburst_common.toml import toml

LOCKS = ("conda-lock.yml", "conda-lock.yaml")
_PLATFORMS = dict(zip(("linux-64", "linux-aarch64"), MACHINES, strict=True))
_PYTHON = re.compile(
    r"python(_abi)?|pip|setuptools|wheel|uv|_.*_mutex|ca-certificates|openssl|tzdata|tk|readline|ncurses|bzip2|icu|zlib"
    r"|zstd|xz|xz-.*|liblzma.*|ld_impl_.*|sqlite|lib(expat|ffi|gcc|gcc-ng|gomp|nsl|sqlite|stdcxx|stdcxx-ng|uuid|xcrypt|zlib"
    r"|mpdec|edit)|vc.*|ucrt"
)
_SHOWN = 5


def files(path: Path) -> list[Path]:
    """The file, and those that its lines for pip include."""
    content = _yaml(path)
    return [path, *texts.included_by(path, _environment(content)[1])] if _is_environment(content) else [path]


def read(path: Path, python: str, asked: Asked) -> str:
    """Raises `BadInput` where conda's channels give more than Python."""
    offered(path, "group", asked.groups, [])
    offered(path, "extra", asked.extras, [])
    content = _yaml(path)
    if _is_environment(content):
        conda, pip = _environment(content)
        _refuse(path, [found[1] for each in conda if (found := _SPEC.match(each))])
        for found in filter(None, map(_SPEC.match, conda)):
            if found[1] == "python" and (wanted := found[2].strip()):
                admit(path, re.sub(r"^=?(\d[\d.]*?)(\.\*)?$", r"==\1.*", wanted), python)
        return texts.read_lines(path, pip, python, asked)
    return _locked(path, _of_pixi(content) if "environments" in content else _of_conda_lock(content), python)


def registries(path: Path) -> Iterable[str]:
    """The indexes that pixi's lock names."""
    content = _yaml(path)
    return content["environments"]["default"].get("indexes", []) if "environments" in content else []


def told_to_pixi(folder: Path) -> dict[str, str]:
    """Of files there that tell pixi what is needed, what of that it has from conda's channels beside Python."""
    found = dict[str, str]()
    for path in filter(is_file, (folder / "pyproject.toml", folder / "pixi.toml")):
        with suppress(BadInput), well_formed(path):
            content = toml(path)
            pixi: Table = content if path.name == "pixi.toml" else content.get("tool", {}).get("pixi", {})
            on_linux = [table for system, table in pixi.get("target", {}).items() if system[:5] in ("linux", "unix")]
            if pixi:
                found[path.name] = _beside_python(
                    [name for table in (pixi, *on_linux) for name in table.get("dependencies", {})]
                )
    return found


_SPEC = re.compile(r"(?:[^:\s]+::)?([\w.-]+)\s*(.*)")


def _is_environment(content: Table) -> bool:
    return "environments" not in content and "package" not in content


def _environment(content: Table) -> tuple[list[str], list[str]]:
    """What conda is to install, and what pip."""
    listed: list[Any] = content.get("dependencies") or []
    pip = [line for each in listed if isinstance(each, dict) for line in each.get("pip") or []]
    return [each for each in listed if not isinstance(each, dict)], pip


def _of_conda_lock(content: Table) -> dict[str, list[Table]]:
    """What is locked, by platform."""
    found: dict[str, list[Table]] = {}
    for each in content["package"]:
        if each.get("category", "main") == "main":
            one = {"name": each["name"], "version": each["version"], "url": each["url"], **each.get("hash", {})}
            found.setdefault(each["platform"], []).append({**one, "conda": each["manager"] == "conda"})
    return found


def _of_pixi(content: Table) -> dict[str, list[Table]]:
    """The same, of the default environment."""
    known = {each.get("pypi") or each.get("url") or each.get("path"): each for each in content["packages"]}
    found: dict[str, list[Table]] = {}
    for platform, listed in content["environments"]["default"]["packages"].items():
        for each in listed:
            where = each.get("conda") or each["pypi"]
            name, version = [*where.rpartition("/")[2].rsplit("-", 2), ""][:2]
            found.setdefault(platform, []).append(
                {"name": name, "version": version, "url": where, **known.get(where, {}), "conda": "conda" in each}
            )
    return found


def _locked(path: Path, packages: dict[str, list[Table]], python: str) -> str:
    there = [platform for platform in _PLATFORMS if platform in packages]
    admit_machines(path, [_PLATFORMS[platform] for platform in there])
    of_conda = [each for platform in there for each in packages[platform] if each["conda"]]
    _refuse(path, [each["name"] for each in of_conda])
    for each in of_conda:
        if each["name"] == "python":
            admit(path, f"=={'.'.join(each['version'].split('.')[:2])}.*", python)
    machines: dict[str, list[str]] = {}
    hashes: dict[str, set[str]] = {}
    for platform in there:
        for each in packages[platform]:
            if not each["conda"]:
                what = _what(each)
                machines.setdefault(what, []).append(_PLATFORMS[platform])
                hashes.setdefault(what, set()).update([f"sha256:{each['sha256']}"] if "sha256" in each else [])
    lines = list[str]()
    for what, on in machines.items():
        name, _, version = what.partition(" ")
        marker = "" if len(on) == len(there) else f'platform_machine == "{on[0]}"'
        lines.append(exact_line(name, version, marker, sorted(hashes[what])) if version else name)
    return "\n".join(lines)


def _what(package: Table) -> str:
    """A name with what `exact_line` wants to hear of it; or a mere path."""
    url: str = package["url"]
    if url.startswith("git+"):
        return f"{package['name']} {re.sub(r'[?#].*', '', url)}@{url.rpartition('#')[2]}"
    return f"{package['name']} =={package['version']}" if "://" in url else relative(url)


def _refuse(path: Path, names: Iterable[str]) -> None:
    if others := _beside_python(names):
        raise BadInput(
            f"{path}: conda packages cannot be had from PyPI in the same builds: {others}. "
            "List what your function imports in a requirements.txt beside it (lines under `pip:` or `pypi` can be "
            "copied there) and say requirements=…, or give image=…"
        )


def _beside_python(names: Iterable[str]) -> str:
    others = sorted({name for name in names if not _PYTHON.fullmatch(name)})
    return ", ".join(others[:_SHOWN]) + (f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else "")


def _yaml(path: Path) -> Table:
    import yaml

    try:
        content = yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise BadInput(f"{path}: not YAML: {one_line(str(error), 300)}") from None
    if not isinstance(content, dict):
        raise BadInput(f"{path}: not as conda or pixi writes it: not a mapping")
    return content
