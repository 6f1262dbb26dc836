"""Which sites were set up from here: what was wanted of each, before it is made, and its settings once it is."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from starburst_common.errors import BadInput
from starburst_common.outside import sites_folder
from starburst_common.sites.asked import what_is_asked
from starburst_common.sites.site import Site
from starburst_common.sites.wanted import WantedSite
from starburst_common.trust import own_folder, owner_only

_SUFFIX = ".setup.json"
_INSTEAD = "name a settings file of your own in STARBURST_CONFIG"


class KnownSite(NamedTuple):
    """Where a site is, as far as it takes to find and to remove it."""

    name: str
    region: str
    account: str
    bucket: str
    cluster: str
    ready: bool  #: setup has ended
    asked: Mapping[str, Any] = MappingProxyType({})  #: what was asked of it, but for what is so by default


def elsewhere(wanted: WantedSite, account: str) -> str:
    """Where one of that name is, if it is not where this is to be, and what to do."""
    before = known(wanted.name)
    where = (wanted.region, account, wanted.bucket_name(account))
    if before is None or (before.region, before.account, before.bucket) == where:
        return ""
    return (
        f"site {wanted.name} was set up in {before.region} of account {before.account}, with the bucket "
        f"{before.bucket}: choose another --site, or `starburst teardown --site {wanted.name}` first"
    )


def keep_wanted(wanted: WantedSite, account: str) -> None:
    """It is about to be made."""
    said = {
        "region": wanted.region,
        "account": account,
        "bucket": wanted.bucket_name(account),
        "cluster": wanted.cluster or wanted.stem,
        "asked": what_is_asked(wanted),
    }
    _write(_wanted_file(wanted.name), json.dumps(said, indent=2) + "\n")


def write_site(site: Site) -> Path:
    """Its settings; the file, which runs find by themselves."""
    file = _site_file(site.name)
    lines = [f"{name} = {json.dumps(value)}" for name, value in asdict(site).items() if value not in ("", ())]
    _write(file, "\n".join([f"# made by `starburst setup --site {site.name}`, which writes it anew", *lines, ""]))
    return file


def known(name: str) -> KnownSite | None:
    """A site that was set up from here, whole or in part."""
    try:
        said = json.loads(_wanted_file(name).read_text())
        region, account, bucket, cluster = (str(said[each]) for each in ("region", "account", "bucket", "cluster"))
        return KnownSite(name, region, account, bucket, cluster, _site_file(name).exists(), dict(said.get("asked", {})))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise BadInput(f"{_wanted_file(name)} cannot be read: {error}: remove it, and set the site up again") from None


def all_known() -> tuple[list[KnownSite], list[str]]:
    """All that were, and what is wrong with records that cannot be read."""
    found, wrong = list[KnownSite](), list[str]()
    for name in sorted(each.name.removesuffix(_SUFFIX) for each in sites_folder().glob(f"*{_SUFFIX}")):
        try:
            found += filter(None, [known(name)])
        except BadInput as error:
            wrong.append(str(error))
    return found, wrong


def forget_settings(name: str) -> None:
    """Nothing runs there any more."""
    with suppress(FileNotFoundError):
        _site_file(name).unlink()


def forget(name: str) -> None:
    """It is gone."""
    forget_settings(name)
    with suppress(FileNotFoundError):
        _wanted_file(name).unlink()


def _wanted_file(name: str) -> Path:
    return sites_folder() / f"{name}{_SUFFIX}"


def _site_file(name: str) -> Path:
    return sites_folder() / f"{name}.toml"


def _write(file: Path, text: str) -> None:
    folder = own_folder(file.parent, _INSTEAD)
    new = folder / f".{file.name}.{os.getpid()}"
    with open(new, "w", opener=owner_only) as written:
        written.write(text)
        written.flush()
        os.fsync(written.fileno())
    new.replace(folder / file.name)
