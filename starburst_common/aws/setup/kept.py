"""Which sites were set up from here: what was wanted of each, before it is made, and its settings once it is."""

from __future__ import annotations

import json
import os
import tomllib
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from starburst_common.errors import BadInput
from starburst_common.outside import sites_folder
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


def keep_wanted(wanted: WantedSite, account: str) -> None:
    """It is about to be made. Raises `BadInput` where one of that name is elsewhere."""
    before = known(wanted.name)
    where = (wanted.region, account, wanted.bucket_name(account))
    if before and (before.region, before.account, before.bucket) != where:
        raise BadInput(
            f"site {wanted.name} was set up in {before.region} of account {before.account}, with the bucket "
            f"{before.bucket}: choose another --site, or `starburst teardown --site {wanted.name}` first"
        )
    said = {
        "region": wanted.region,
        "account": account,
        "bucket": wanted.bucket_name(account),
        "cluster": wanted.cluster or wanted.stem,
    }
    _write(_wanted_file(wanted.name), json.dumps(said, indent=2) + "\n")


def write_site(site: Site) -> Path:
    """Its settings; the file, which runs find by themselves."""
    file = _site_file(site.name)
    lines = [f"{name} = {json.dumps(value)}" for name, value in asdict(site).items() if value not in ("", ())]
    _write(file, "\n".join([f"# made by `starburst setup --site {site.name}`, which writes it anew", *lines, ""]))
    return file


def dropped(wanted: WantedSite) -> list[str]:
    """What was asked of the site before, and is not now; for people."""
    try:
        before = tomllib.loads(_site_file(wanted.name).read_text())
    except (OSError, ValueError):
        return []
    now = {name: getattr(wanted, name) for name in ("image", "max_hourly_cost", "monthly_budget", "tags")}
    return [
        f"{name}: {before[name]} until now, and not asked for again"
        for name, value in now.items()
        if before.get(name) and not value
    ]


def known(name: str) -> KnownSite | None:
    """A site that was set up from here, whole or in part."""
    try:
        said = json.loads(_wanted_file(name).read_text())
        region, account, bucket, cluster = (str(said[each]) for each in ("region", "account", "bucket", "cluster"))
        return KnownSite(name, region, account, bucket, cluster, _site_file(name).exists())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise BadInput(f"{_wanted_file(name)} cannot be read: {error}: remove it, and set the site up again") from None


def all_known() -> list[KnownSite]:
    """All that were."""
    names = sorted(each.name.removesuffix(_SUFFIX) for each in sites_folder().glob(f"*{_SUFFIX}"))
    return [found for name in names if (found := known(name))]


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
