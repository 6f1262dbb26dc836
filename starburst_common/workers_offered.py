"""What may be asked of workers, as rows of the table of all that may be asked of a map. Pure."""

# no annotations as text here: `rows` reads them
from typing import Annotated, TypedDict

from starburst_common.resources import RULES
from starburst_common.rows import Row, number, whole

MOST_WORKERS = 10_000


class WorkerOptions(TypedDict, total=False):
    """Of a `Cluster` or an executor as a whole: its workers are all alike."""

    workers: Annotated[
        int | None,
        Row(
            "containers, or processes on this machine, at most; None is one a core here, and 10 on AWS.",
            (whole(1, MOST_WORKERS),),
            None,
            outside="a whole number of workers, such as 50",
            shell="Containers, or processes on this machine.",
        ),
    ]
    cpu: Annotated[
        float,
        Row(
            "vCPU of a worker, a Fargate size: 0.25, 0.5, 1, 2, 4, 8 or 16; on EC2 any from 0.125 to 192.",
            (RULES["cpu"],),
            1,
            outside="vCPU a worker, such as 1 or 0.5",
            shell="vCPU of a worker: 0.25, 0.5, 1, 2, 4, 8 or 16, or any on EC2; else 1.",
        ),
    ]
    memory: Annotated[
        str | float | None,
        Row(
            'memory of a worker: "8GB", "512MB" or a number of GB; None is the least that goes with `cpu`, and on EC2 '
            "1.75 GB a vCPU, of which as many fit on an instance as it has vCPU. On this "
            "machine only a named limit is enforced, for all slots together, and on Linux.",
            (RULES["memory"],),
            None,
            outside='a size, such as "8GB"',
            shell='Memory of a worker, such as "8GB" or "512MB".',
        ),
    ]
    slots: Annotated[
        int | None,
        Row(
            "items a worker runs at once, each in a process of its own; None is one a vCPU, at least one, or one a "
            "GPU.",
            (RULES["slots"],),
            None,
            outside="a whole number of items that a worker runs at once",
            shell="Items a worker runs at once; else one a vCPU, or one a GPU.",
        ),
    ]
    spot: Annotated[
        bool,
        Row(
            "on capacity that is cheaper and may be taken back. Changes nothing on this machine.",
            (RULES["spot"],),
            False,
            outside="true or false",
            shell="On cheaper capacity that may be taken back.",
        ),
    ]
    capacity: Annotated[
        str | None,
        Row(
            'what workers on AWS run on: "fargate", or "ec2" for instances that they share, which ECS starts and ends '
            "as they come and go; None is Fargate, and EC2 where GPUs are asked for. Changes nothing on this machine.",
            (RULES["capacity"],),
            None,
            outside='"fargate" or "ec2"',
            shell="What workers on AWS run on: fargate, or ec2 for instances that they share.",
        ),
    ]
    gpus: Annotated[
        int,
        Row(
            "GPUs of a worker, which runs on EC2 then; each slot sees its own. Changes nothing on this machine.",
            (RULES["gpus"],),
            0,
            outside="a whole number of GPUs",
            shell="GPUs of a worker, which runs on EC2 then.",
        ),
    ]
    image: Annotated[
        str | None,
        Row(
            "what workers on AWS run in, in place of one made for your environment. It must hold the worker.",
            (RULES["image"],),
            None,
            outside="an image, such as REGISTRY/REPOSITORY:TAG",
            shell="What workers on AWS run in, in place of one made for your environment.",
        ),
    ]
    storage: Annotated[
        str | float | None,
        Row(
            'disk of a worker: "50GB" or a number of GB, 21 to 200; None is the 20 that are free. Changes nothing on '
            "this machine, whose disk all share.",
            (RULES["storage"],),
            None,
            outside='a size, such as "50GB"',
            shell='Disk of a worker, such as "50GB"; else the 20 that are free.',
        ),
    ]
    env: Annotated[
        dict[str, str] | None,
        Row(
            "variables of the workers' environment, names and values as text, which functions read in `os.environ`. No "
            "place for secrets: on AWS whoever may describe tasks reads them. In a variable, a JSON object.",
            (RULES["env"],),
            None,
            outside='a JSON object of texts, such as {"REGION": "north"}',
            shell="A variable of the workers' environment, no secret; may be given several times.",
        ),
    ]
    task_role: Annotated[
        str | None,
        Row(
            "ARN of the role whose permissions functions have on AWS, in place of the site's. It needs what that one "
            "may, and you `iam:PassRole` on it. Changes nothing on this machine.",
            (RULES["task_role"],),
            None,
            outside="the ARN of a role",
            shell="ARN of the role that functions have on AWS; else the site's.",
        ),
    ]
    aws_tags: Annotated[
        dict[str, str] | None,
        Row(
            "tags, names and values as text, that a run's tasks and queues have in AWS beside the site's: for accounts "
            "that demand some, and for bills. 49 at most, less the site's. Changes nothing on this machine.",
            (RULES["aws_tags"],),
            None,
            outside='a JSON object of texts, such as {"cost-centre": "4711"}',
            shell="A tag that tasks and queues have in AWS; may be given several times.",
        ),
    ]
    keep_warm: Annotated[
        float,
        Row(
            "seconds that workers stay, idle, when nothing needs them any more: a later run that asks for such workers "
            "and for the same `keep_warm`, of whatever process, has them at once, also beside runs that are at work on "
            "them, and all there are, though they be more than its `workers`. 0 has none stay.",
            (number(lambda value: 0 <= value <= 43_200, "seconds from 0 to 43200"),),
            0.0,
            outside="seconds",
            shell="Seconds that workers stay for later runs of this size and image; else they end with this one.",
        ),
    ]
