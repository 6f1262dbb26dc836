"""What was asked of a site before, and what is now, in; what is wanted of it, and what became of each, out. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from shlex import quote
from typing import Any, Self

from starburst_common.errors import BadInput
from starburst_common.phrases import told
from starburst_common.sites.wanted import WantedSite, option_of

#: What can be asked, with what it is where nobody asks.
DEFAULTS: dict[str, Any] = {
    each.name: each.default for each in fields(WantedSite) if each.name not in ("name", "region")
}
#: Whoever names one of these chooses another network: what was asked of the one before goes.
_OTHER_NETWORK = {"network": ("subnets", "security_groups", "private"), "subnets": ("network",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedSite:
    """What is wanted, and what was asked before: as options of the command, in words."""

    wanted: WantedSite
    kept: tuple[str, ...]
    changed: tuple[tuple[str, str], ...]  #: before, and now
    gone: tuple[str, ...]

    @property
    def as_command(self) -> str:
        """What asks for the same.

        >>> AskedSite.of("main", "eu-west-1", {"network": "made"}, {}).as_command
        'starburst setup --site main --region eu-west-1 --network made --yes'
        """
        where = f"--site {self.wanted.name} --region {self.wanted.region}"
        options = [in_words(name, value) for name, value in what_is_asked(self.wanted).items()]
        return " ".join(["starburst setup", where, *options, "--yes"])

    @classmethod
    def of(
        cls, name: str, region: str, given: Mapping[str, Any], before: Mapping[str, Any], forget: Collection[str] = ()
    ) -> Self:
        """What is `given` now, else what was asked `before`, but for what is to be forgotten. Raises `BadInput`.

        >>> AskedSite.of("main", "eu-west-1", {"log_days": 30}, {"log_days": 7, "tags": ["a=b"]}).kept
        ('--tag a=b',)
        """
        before = _known(before)
        left = _named(forget, given) | {other for each in given for other in _OTHER_NETWORK.get(each, ())}
        kept = {each: value for each, value in before.items() if each not in given and each not in left}
        try:
            wanted = WantedSite.of(name=name, region=region, **kept, **given)
        except BadInput as error:
            if not kept:
                raise
            asked = " ".join(in_words(each, value) for each, value in kept.items())
            raise BadInput(f"{error}; of before there is {asked}: --forget OPTION gives one up") from None
        now = {each: getattr(wanted, each) for each in before}
        return cls(
            wanted=wanted,
            kept=tuple(in_words(each, value) for each, value in before.items() if now[each] == value),
            changed=tuple(
                (in_words(each, value), in_words(each, now[each]))
                for each, value in before.items()
                if now[each] not in (value, DEFAULTS[each])
            ),
            gone=tuple(in_words(each, value) for each, value in before.items() if now[each] == DEFAULTS[each] != value),
        )


def what_is_asked(wanted: WantedSite) -> dict[str, Any]:
    """What is not as it is by default, to be written down.

    >>> what_is_asked(WantedSite(name="main", region="eu-west-1", log_days=30))
    {'log_days': 30}
    """
    return {name: getattr(wanted, name) for name, value in DEFAULTS.items() if getattr(wanted, name) != value}


def in_words(name: str, value: Any) -> str:
    """As the command is told it.

    >>> in_words("tags", ("team=a b", "x=y")), in_words("architecture", "ARM64"), in_words("ec2", False)
    ("--tag 'team=a b' --tag x=y", '--arm', '--no-ec2')
    """
    option = option_of(name)
    if name == "architecture":
        value = value == "ARM64"
    if isinstance(value, bool):
        return f"--{option}" if value else f"--no-{option}"
    each = value if isinstance(value, tuple) else (value,)
    return " ".join(f"--{option} {quote(f'{one:g}' if isinstance(one, float) else str(one))}" for one in each)


def _known(before: Mapping[str, Any]) -> dict[str, Any]:
    """Of what was written down, what can be asked, and is not as by default; the rest is nobody's wish."""
    found = {}
    for name, value in before.items():
        value = tuple(value) if isinstance(value, list) else value
        if name in DEFAULTS and type(value) is type(DEFAULTS[name]) and value != DEFAULTS[name]:
            found[name] = value
    return found


def _named(options: Collection[str], given: Mapping[str, Any]) -> set[str]:
    """The settings that options are called; raises `BadInput` for one that is none, or is given as well."""
    names = {option_of(name): name for name in DEFAULTS}
    found = set()
    for option in options:
        name = names.get(option.lstrip("-").removeprefix("no-"))
        if name is None:
            near = get_close_matches(option, names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"give one of {', '.join(names)}"
            raise BadInput(f"--forget {told(option)}: {hint}")
        if name in given:
            raise BadInput(f"--forget {option} and --{option_of(name)}: give either")
        found.add(name)
    return found
