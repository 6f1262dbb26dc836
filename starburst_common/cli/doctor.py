"""`starburst doctor`: whether maps can be done here or there, and what to do if not."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from starburst_common.cli.words import BackendWord, Json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starburst_common.aws.reach import Reached
    from starburst_common.aws.setup.permissions import Ruling
    from starburst_common.config import Settings
    from starburst_common.ports import Limit
    from starburst_common.sites.site import Site

_LEAST_FREE = 1 << 30  #: bytes below which a disk is told as nearly full
_FAILED = 5  #: as for any service, or machine, that failed
_WORDS = {True: ("ok   ", "green"), False: ("WRONG", "red"), None: ("?    ", "yellow")}


def doctor(
    backend: BackendWord = "auto",
    from_worker: Annotated[
        bool, typer.Option("--from-worker", help="Also map an item on one worker: image, network and roles.")
    ] = False,
    json: Json = False,
) -> None:
    """Look whether maps can be done; a line each: ok, WRONG with what to do, or ? where nobody could tell, or it is to
    be known.

    Of a site: credentials, clock, each part of it, and each permission of yours and of its roles, by its name. IAM is
    asked (iam:SimulatePrincipalPolicy), or they are tried by calls that change nothing; quotas; and what of that which
    setup has made is not as it was asked for. Of this machine: Python, and where runs are kept.

    Nothing is made, but for what --from-worker needs, which costs a minute of one small worker. Exit code 5 if anything
    is wrong, 0 where all is ok or nobody could tell.
    """
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.show import painted
    from starburst_common.cli.wrap import wrapped
    from starburst_common.config import settings
    from starburst_common.phrases import one_line

    found = settings(backend=None if backend == "auto" else backend)
    parts = [
        *(
            _site(found, from_worker=from_worker)
            if found.site is not None and found.backend != "local"
            else _machine(found)
        )
    ]
    if from_worker and all(part.fine is not False for part in parts):
        parts.append(_worker(backend))
    if json:
        print_json([part._asdict() for part in parts])
    else:
        for part in parts:
            word, style = _WORDS[part.fine]
            line = wrapped(f"{word}  {part.part}: {one_line(part.told, 1000)}", sys.stdout, indent=len(word) + 2)
            print(painted(word, style, sys.stdout) + line[len(word) :])
    if any(part.fine is False for part in parts):
        raise typer.Exit(_FAILED)


def _site(found: Settings, *, from_worker: bool) -> list[Reached]:
    from starburst_common.aws.reach import Reached, site_parts

    site = found.site
    assert site is not None
    named = Reached("site", True, f"{site.name} in {site.region}")
    parts = [named, _python(site, from_worker=from_worker), *site_parts(site)]
    known = next(part.fine for part in parts if part.part == "credentials")
    return [*parts, *([*_quotas(site), *_permissions(site), *_as_asked(site), *_of_others(found)] if known else [])]


def _quotas(site: Site) -> list[Reached]:
    """What may run at once. None at all is wrong; that others use it up is a wait."""
    from starburst_common.aws.clients import Clients
    from starburst_common.aws.quotas import AccountQuotas
    from starburst_common.aws.reach import Reached
    from starburst_common.cli.standing import limit_line

    clients = Clients(site.region)
    try:
        quotas = AccountQuotas(clients, site.subnets, site)
        limits = [*quotas.limits(spot=True)]
        for gpus, provider in ((False, site.ec2_provider), (True, site.gpu_provider)):
            limits += quotas.limits(spot=False, ec2=True, gpus=gpus) if provider else []
    finally:
        clients.close()
    return [Reached("quota", _enough(limit), limit_line(limit)) for limit in limits]


def _enough(limit: Limit) -> bool | None:
    """Not at all is wrong, but of instances with GPUs, which no new account may run."""
    if limit.unknown or (limit.total == 0 and limit.code.startswith("ec2/")):
        return None
    return limit.total > 0


def _python(site: Site, *, from_worker: bool) -> Reached:
    """Workers must have the same minor release; one that is tried tells whether they have."""
    import platform

    from starburst_common.aws.reach import Reached

    minor = ".".join(map(str, sys.version_info[:2]))
    here = f"{platform.python_version()} here, on {platform.machine()}"
    if not site.image:
        return Reached("python", True, f"{here}; images that are made have {minor}, for {site.architecture}")
    asked = ": the worker below tells" if from_worker else ": --from-worker tells"
    return Reached("python", None, f"{here}; {site.image} must have {minor}, for {site.architecture}{asked}")


def _permissions(site: Site) -> list[Reached]:
    """Of who asks, a line a service; of each role of the site, a line."""
    from starburst_common.aws.reach import Reached
    from starburst_common.aws.setup.account import AdminClients, AwsAccount
    from starburst_common.aws.setup.permissions import own_permissions, role_permissions
    from starburst_common.errors import Denied, StarburstError

    clients = AdminClients(site.region)
    try:
        account = AwsAccount.of(clients, site.name)
        rulings, how = own_permissions(account, site)
        services = sorted({each.permission.action.partition(":")[0] for each in rulings})
        parts = [Reached("permissions", True, how)]
        for service in services:
            of_it = [each for each in rulings if each.permission.action.startswith(f"{service}:")]
            parts.append(_told_of(f"you may {service}", of_it, "driver"))
        for kind in ("execution", "task", *(["build"] if site.build_role else [])):
            try:
                parts.append(_told_of(f"{kind} role", role_permissions(account, site, kind), kind))
            except Denied:
                parts.append(
                    Reached(f"{kind} role", None, "could not tell: iam:SimulatePrincipalPolicy is not allowed")
                )
            except StarburstError as error:
                parts.append(Reached(f"{kind} role", False if "NoSuchEntity" in str(error) else None, str(error)))
        return parts
    except StarburstError as error:
        return [Reached("permissions", None, str(error))]
    finally:
        clients.close()


def _told_of(part: str, rulings: Sequence[Ruling], policy: str) -> Reached:
    """In one line: what lacks, on what; else what nobody could tell; else all by their names."""
    from starburst_common.aws.reach import Reached

    def names(allowed: bool | None) -> str:
        them = [each.permission for each in rulings if each.allowed is allowed]
        if allowed is False:
            return ", ".join(f"{each.action} on {each.resource}" for each in them)
        return ", ".join(dict.fromkeys(each.action.partition(":")[2] for each in them))

    if lacks := names(False):
        return Reached(part, False, f"not {lacks}: allow it, as `starburst iam-policy {policy}` prints it")
    if unknown := names(None):
        fine = names(True)
        return Reached(part, None, f"{f'{fine}; ' if fine else ''}could not tell: {unknown}")
    return Reached(part, True, names(True))


def _as_asked(site: Site) -> list[Reached]:
    """Of what setup has made: what is not as it was asked for, a line a part; else a line for all."""
    from starburst_common.aws.reach import Reached
    from starburst_common.aws.setup.account import AdminClients, AwsAccount
    from starburst_common.aws.setup.state import states
    from starburst_common.errors import StarburstError

    clients, mends = AdminClients(site.region), f"`starburst setup --site {site.name}`"
    try:
        found = states(AwsAccount.of(clients, site.name), site)
    except StarburstError as error:
        return [Reached("as asked of setup", None, str(error))]
    finally:
        clients.close()
    told = {
        each.part: f"not as asked of setup: {'; '.join(each.amiss)}: {mends} mends it" for each in found if each.amiss
    }
    told |= {
        each.part: f"it is gone: {mends} makes it"
        for each in found
        if not each.there and each.part.kind != "signing key"  # which was looked at before
    }
    tag = f"starburst:site={site.name}"
    told |= {each.part: f"it lacks the tag {tag}, by which setup knows it: tag it" for each in found if not each.ours}
    parts = [Reached(f"{part.kind} {part.name}", False, words) for part, words in told.items()]
    if unsure := [each.unsure for each in found if each.unsure]:
        what = f"could not look at {len(unsure)} of {len(found)} parts: {unsure[0]}: `starburst iam-policy operator`"
        parts.append(Reached("as asked of setup", None, f"{what} prints what it takes"))
    elif found and not parts:
        parts.append(Reached("as asked of setup", True, f"{len(found)} parts, with their tags and settings"))
    return parts


def _of_others(found: Settings) -> list[Reached]:
    """What others have set on bucket and repository."""
    from starburst_common.aws.reach import Reached
    from starburst_common.aws.setup.account import AdminClients, AwsAccount
    from starburst_common.aws.setup.others import remarks
    from starburst_common.errors import StarburstError

    site = found.site
    assert site is not None
    clients = AdminClients(site.region)
    try:
        account = AwsAccount.of(clients, site.name)
        seen = remarks(account, site.bucket, site.repository, keep_days=found.keep_days)
    except StarburstError as error:
        return [Reached("what others have set", None, str(error))]
    finally:
        clients.close()
    parts = [Reached(each.about, False if each.wrong else None, each.told) for each in seen.found]
    unsure = [Reached("what others have set", None, f"could not look at {each}") for each in seen.unsure[:1]]
    return [*parts, *unsure]


def _machine(found: Settings) -> list[Reached]:
    """This one: where runs are kept, and with what."""
    from starburst_common.aws.reach import Reached
    from starburst_common.backends import local_at
    from starburst_common.errors import StarburstError

    version = ".".join(map(str, sys.version_info[:3]))
    parts = [Reached("python", True, f"{version} on {os.uname().machine}, {os.cpu_count()} cores")]
    try:
        local_at(found.home).close()
        free = shutil.disk_usage(found.home).free
        told = f"{found.home}, {free / (1 << 30):,.1f} GB free"
        parts.append(Reached("home", free > _LEAST_FREE, told if free > _LEAST_FREE else f"{told}: make room there"))
    except (StarburstError, OSError) as error:
        parts.append(Reached("home", False, str(error)))
    parts.append(Reached("site", True, "none is configured: `starburst setup` makes one in your AWS account"))
    return parts


def _worker(backend: str) -> Reached:
    """What one says of itself."""
    import platform

    from starburst_common.aws.reach import Reached
    from starburst_common.cluster import Cluster
    from starburst_common.errors import StarburstError
    from starburst_common.progress import progress
    from starburst_common.steps import steps_shown

    try:
        with steps_shown(True), Cluster(backend=backend, workers=1, label="doctor") as cluster:
            run = cluster.start(_python_of, [platform.python_version()])
            with progress(run, None):
                (told,) = run.results()
            run.wait()
            return Reached("worker", True, f"{told}; it reached bucket, queues, registry, log and key")
    except StarburstError as error:
        return Reached("worker", False, str(error))


def _python_of(here: str) -> str:
    import platform

    return f"Python {platform.python_version()} on {platform.machine()}, here {here}"
