"""Networks of the user's own on AWS that do not lead everywhere: what lacks is named, and the run ends soon."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path

import pytest

from starburst_common import Cluster, RunStopped
from tests.places import aws_text, open_place
from tests.test_cli import Shell
from tests.testbed.bed import Bed as Aws
from tests.testbed.private import SERVICES, private_network

rest = partial(pytest.param, marks=pytest.mark.rest)


@pytest.mark.parametrize(
    ("lacks", "said"),
    [
        ("sqs", "SQS takes no connection"),
        rest("logs", "connection issue between the task and Amazon CloudWatch"),
        rest("ecr.api", "Amazon ECR: There is a connection issue"),
        rest("ecr.dkr", "from the Amazon ECR repository"),
        rest("s3", "starport-layer-bucket"),
        rest("secretsmanager", "AWS Secrets Manager"),
    ],
)
def test_an_endpoint_that_lacks_ends_the_run_after_three_and_is_named(
    aws: Aws, tmp_path: Path, lacks: str, said: str
) -> None:
    """By the run and by the doctor; once it is there, the same maps."""
    with private_network(aws, [each for each in SERVICES if each != lacks]) as network:
        private = {"subnets": network.subnets, "security_groups": [], "assign_public_ip": False}
        config = tmp_path / "config.toml"
        config.write_text(aws.settings(**private))
        shell = Shell(tmp_path, env={**aws.env, **aws.as_user("operator"), "STARBURST_CONFIG": str(config)})
        kind = "a gateway endpoint" if lacks == "s3" else "an interface endpoint"
        add = rf"in private ones {kind} com\.amazonaws\.us-east-1\.{lacks}\b"
        backend = open_place(aws_text({**aws.site, **private})).paced(lease_s=3.0)
        with Cluster(workers=2, backend=backend, progress=False) as cluster:
            run = cluster.start(abs, range(40), chunk_size=1)
            with pytest.raises(RunStopped, match=rf"\d workers could not start.*{said}.*{add}"):
                run.results(timeout=120)
            run.wait()
            assert 3 <= len(aws.tasks()) <= 5
            told = shell("doctor", "--json")
            wrong = [part for part in json.loads(told.stdout) if part["fine"] is False]
            assert told.returncode == 5 and [part["part"] for part in wrong] == ["network"]
            assert re.search(add, wrong[0]["told"])
            network.end(aws, lacks)
            assert cluster.map(abs, [-1, -2]) == [1, 2]


@pytest.mark.rest
def test_the_doctor_s_worker_names_what_the_doctor_may_not_see(aws: Aws, tmp_path: Path) -> None:
    """Who may not look at networks is told so, and has the reason by a worker that is tried."""
    with private_network(aws, [each for each in SERVICES if each != "ecr.dkr"]) as network:
        config = tmp_path / "config.toml"
        config.write_text(aws.settings(subnets=network.subnets, security_groups=[], assign_public_ip=False))
        shell = Shell(tmp_path, env={**aws.env, "STARBURST_CONFIG": str(config)})
        told = shell("doctor", "--from-worker")
    assert "?      network: " in told.stdout and "ec2:DescribeRouteTables" in told.stdout
    assert re.search(r"WRONG  worker: .*an interface endpoint com\.amazonaws\.us-east-1\.ecr\.dkr", told.stdout)
