"""What a test, or a person, may set: how long things take, what there is room for, what is throttled."""

from __future__ import annotations

import os
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from typing import Any

from moto.utilities.utils import get_partition

ACCOUNT = "123456789012"
STRANGER = "210987654321"  #: another's
REGION = os.environ.get("BED_REGION", "us-east-1")  #: where the site is
PARTITION = get_partition(REGION)
AT: ContextVar[str] = ContextVar("AT", default=REGION)  #: the region of the call that is being answered
#: What hosts of a partition's services end with. Source: botocore 1.44, data/partitions.json
_DOMAINS = {"aws-cn": "amazonaws.com.cn", "aws-eusc": "amazonaws.eu"}


def domain_of(region: str) -> str:
    """What the hosts of a region's services end with."""
    return _DOMAINS.get(get_partition(region), "amazonaws.com")


ADMINISTRATOR = "AKIABEDADMINISTRATOR"  #: the access key of who may do everything: of tests' own preparations


@dataclass(slots=True)
class Conditions:
    """Read anew at each use; `set` changes any of them by name."""

    provisioning_s: float = 0.05  #: PROVISIONING
    pull_s: float = 0.05  #: PENDING, while the image is pulled
    starting_s: float = 0.05  #: PENDING, after the pull
    deprovisioning_s: float = 0.05  #: DEPROVISIONING
    stop_timeout_s: float | None = None  #: between SIGTERM and SIGKILL, in place of the definition's stopTimeout
    stopped_kept_s: float = 3600.0  #: how long a stopped task is described
    describe_lag_s: float = 0.0  #: how long a new task is unknown to DescribeTasks and ListTasks
    on_demand_vcpu: float = 4000.0  #: quota L-3032A538
    spot_vcpu: float = 4000.0  #: quota L-36FBB829
    others_vcpu: float = 0.0  #: what others of the account use of the on-demand quota, and have for long
    usage_lag_s: float = 60.0  #: how late CloudWatch tells what of a quota is in use
    quota_answer: str = "APPROVED"  #: to who asks for a larger quota
    quota_answer_s: float = 1.0  #: after so long
    quota_requests: list[dict[str, Any]] = field(default_factory=list)  #: all so far, as they are told
    provisioning_max: int = 500  #: tasks in PROVISIONING per cluster
    throttling: bool = True  #: AWS's published rates per API hold
    launch_burst: float = 100.0  #: Fargate launches, on-demand and Spot apart, while throttling
    launch_rate: float = 20.0  #: per second
    zone_room: dict[str, int] = field(default_factory=dict)  #: tasks a zone has room for; without limit if not named
    spot_zone_room: dict[str, int] = field(default_factory=dict)  #: the same for Spot tasks alone
    denied: list[str] = field(default_factory=list)  #: actions that nobody may do, whatever a policy says
    taken: list[str] = field(default_factory=list)  #: buckets that another account has, which lets everybody in
    images: list[str] = field(default_factory=lambda: ["*"])  #: patterns of the images there are to pull
    command: list[str] = field(default_factory=list)  #: what every container runs, in place of what its image does
    #: whether an immutable tag may be put again with the image that it names. The API reference does not say;
    #: github.com/aws/containers-roadmap/issues/2179 has ECR refuse that too
    same_image_again: bool = True
    #: how old a queue's counts are at most; a tenth of AWS's, as here all goes faster. "These metrics may not achieve
    #: consistency until at least 1 minute after the producers stop sending messages" (SQS, GetQueueAttributes)
    counters_lag_s: float = 6.0
    #: how long a deleted queue still takes requests; scaled so, too. "The deletion process takes up to 60 seconds.
    #: Requests you send involving that queue during the 60 seconds might succeed" (SQS API reference, DeleteQueue)
    queue_deletion_s: float = 6.0
    #: how a launch that is beyond the quota as a whole is refused: "exception" for ClientException, "failures" for one
    #: of each task, "turns" for both in turn. Both are reported; which comes when is documented nowhere
    quota_form: str = "turns"
    #: dollars in place of the book's, as text, whatever it is: by type of instance, "spot:" and that, or how a usage
    #: type of Fargate ends
    prices: dict[str, str] = field(default_factory=dict)
    prices_lack: list[str] = field(default_factory=list)  #: what is not in the price lists, by the same names
    prices_published: str = ""  #: the day that price lists are of; today where it is empty
    #: by day and "TAG=VALUE|SERVICE": dollars as text, as AWS tells them
    bill: dict[str, dict[str, str]] = field(default_factory=dict)
    bill_active: bool = True  #: whether tags were activated as cost allocation tags
    #: how long a new role is unknown to other services, and how long a changed one is to them as it was before; what
    #: tests' own preparations change is known at once. Of AWS, users report up to some ten seconds
    new_role_s: float = 2.0
    changed_role_s: float = 4.0
    #: the account's quotas on vCPU of instances, by family; " Spot" behind it for Spot. What is not named is 0
    ec2_vcpu: dict[str, float] = field(
        default_factory=lambda: {"Standard": 4000.0, "Standard Spot": 4000.0, "G and VT": 64.0, "G and VT Spot": 64.0}
    )
    ec2_room: dict[str, float] = field(default_factory=dict)  #: vCPU that EC2 has of each; without limit if not named
    instance_s: float = 0.1  #: from the launch of an instance to its registration
    placement_s: float = 600.0  #: how long a task waits for an instance before it is stopped
    spot_notice_s: float = (
        120.0  #: from a Spot instance's notice to its end (EC2 user guide, "Spot interruption notices")
    )
    build_start_s: float = 0.05  #: QUEUED, and PROVISIONING, of a CodeBuild build

    def set(self, changes: dict[str, Any]) -> None:
        """Change some, by name. Raises ValueError for a name that is none."""
        known = {each.name for each in fields(self)}
        if unknown := sorted(set(changes) - known):
            raise ValueError(f"no such condition: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
        for name, value in changes.items():
            setattr(self, name, value)

    def reset(self) -> None:
        """As at the start."""
        fresh = Conditions()
        for each in fields(self):
            setattr(self, each.name, getattr(fresh, each.name))
