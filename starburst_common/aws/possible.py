"""A site and what workers are asked to be in; raises for those that there can be none of, before anything is stored."""

from __future__ import annotations

from botocore.exceptions import ClientError

from starburst_common.aws.answers import error_code, speaking
from starburst_common.aws.clients import Clients
from starburst_common.errors import BadInput, StarburstError
from starburst_common.instances import suited
from starburst_common.resources import Resources
from starburst_common.sites.policies import TRUSTED, trusts
from starburst_common.sites.site import Site
from starburst_common.sites.tagging import refuse_many


def refuse_impossible(site: Site, clients: Clients, resources: Resources) -> None:
    """Raise `BadInput` for what the site has no workers of, with what to do.

    A role is looked at where these credentials may (iam:GetRole); else the launch tells.
    """
    refuse_many(resources.aws_tags, dict(each.split("=", 1) for each in site.tags))
    if resources.on_ec2 and not site.provider(gpus=resources.gpus, spot=resources.spot):
        kind = " with GPUs" if resources.gpus else ""
        asked = f"gpus={resources.gpus}" if resources.gpus else 'capacity="ec2"'
        raise BadInput(
            f"{asked}: site {site.name} has no capacity provider of workers on EC2{kind}: `starburst setup --ec2` "
            "makes them, or name one of yours in its settings"
        )
    if resources.on_ec2 and (wrong := _too_large(site, resources)):
        raise BadInput(wrong)
    if resources.task_role and (wrong := _wrong_role(site, clients, resources.task_role)):
        raise BadInput(f"task_role={resources.task_role!r}: {wrong}")


def _too_large(site: Site, resources: Resources) -> str:
    """What is wrong with workers that fit on no type of the site's, by what ECS registers; of unknown ones, nothing."""
    gpus, tariff = resources.gpus > 0, site.tariff
    own = not (tariff.gpus_managed if gpus else tariff.managed)
    types = ("*",) if own else site.gpu_types if gpus else site.instance_types
    known = suited(types, tariff.arch, gpus=gpus)
    if not known or any(shape.fits(resources.cpu, resources.memory_mib, resources.gpus) for shape in known):
        return ""
    most = max(known, key=lambda shape: (shape.registered_mib, shape.vcpu))
    has = f"{most.vcpu} vCPU and {most.registered_mib / 1024:.1f} GB" + f" and {most.gpus} GPUs" * gpus
    cure = "" if own else f", or name larger types with `starburst setup --{'gpu' if gpus else 'instance'}-type`"
    return (
        f"no instance of the types {', '.join(types)} ({site.architecture}) holds a worker of {resources.size}: "
        f"{most.type} has {has} for workers: ask for less{cure}"
    )


def _wrong_role(site: Site, clients: Clients, arn: str) -> str:
    if arn.split(":")[4] != site.account:
        return f"of another account than the site's, {site.account}, and ECS takes none but its own: name one there"
    try:
        with speaking(f"iam:GetRole {arn}"):
            found = clients.roles.get_role(RoleName=arn.rpartition("/")[2])["Role"]
    except StarburstError as error:
        cause = error.__cause__
        gone = isinstance(cause, ClientError) and error_code(cause) == "NoSuchEntity"
        return "there is no such role: make it, or name another; a new one may be unknown for a minute" if gone else ""
    if not trusts(found.get("AssumeRolePolicyDocument"), TRUSTED["task"]):
        return f"it does not trust {TRUSTED['task']}: allow that sts:AssumeRole in its trust policy"
    return ""
