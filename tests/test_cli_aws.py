"""The command on AWS: the same lines and exit codes as on this machine, and wrong settings told in one line."""

from __future__ import annotations

import fcntl
import json
import os
import re
import struct
import subprocess
import termios
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from prefect_starburst.home.summary import progress_text
from starburst_common import RunState, list_runs
from starburst_common.progress import line
from tests.places import aws_text, open_place
from tests.policies import policies
from tests.test_cli import COMMAND, Shell, one_error, shell_in, values
from tests.testbed.bed import Bed as Aws
from tests.testbed.needs import action_of

rest = partial(pytest.param, marks=pytest.mark.rest)


def on_aws(folder: Path, server: Aws) -> Shell:
    """A shell whose settings name the test bed's site."""
    return Shell(shell_in(folder).folder, env={**server.env})


@pytest.fixture
def shell(aws: Aws, tmp_path: Path) -> Shell:
    """With a module and items, and no run yet."""
    return on_aws(tmp_path, aws)


@pytest.fixture(scope="module")
def both(aws_server: Aws, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Shell, Shell]]:
    """Two shells, here and on AWS, each with the same run, two of whose six items have failed. Only to be looked at."""
    aws_server.reset()
    shells = (
        shell_in(tmp_path_factory.mktemp("here")),
        on_aws(tmp_path_factory.mktemp("aws"), aws_server),
    )
    for shell in shells:
        done = shell("map", "work:picky", "-i", "items.jsonl", "--label", "six", "--workers", "1")
        assert done.returncode == 1, done.stderr
    yield shells
    aws_server.reset()


def alike(text: str) -> str:
    """Without what differs from run to run: ids, times, speeds, costs (metered there), where the module lay.

    Columns are as wide as what is in them.
    """
    text = re.sub(r" {2,}", "  ", text)
    text = text.replace("about ", "").replace("(metered so far, ", "(").replace("(metered, ", "(")
    text = re.sub(r'[^"]*(?=/work\.py)', "<folder>", text)
    text = re.sub(r'"worker": "[^"]*"', "<worker>", text)
    text = re.sub(r"(run|fleet)-\d{8}-\d{6}-[0-9a-f]{8}", "<id>", text)
    text = re.sub(r"\d{4}-\d\d-\d\d[ T][\d:.+]+Z?", "<time>", text)
    text = re.sub(r"[\d.]+ items/\w+", "<speed>", text)
    text = re.sub(r"at most [\d.]+ MB a slot", "<memory>", text)
    return re.sub(r"\bjust now\b|\$?\b\d+(\.\d+( s\b)?| s\b)( ago\b)?", "<n>", text)


@pytest.mark.parametrize(
    "command",
    [
        rest(["runs"]),
        rest(["results", "last"]),
        ["results", "last", "--json"],
        ["failures", "last"],
        rest(["failures", "last", "--limit", "1"]),
        rest(["logs", "last"]),
        ["logs", "last", "--item", "4"],
        rest(["attach", "last"]),
        ["cancel", "last"],
        ["replay", "last", "4"],
        rest(["replay", "last", "3"]),
        rest(["replay", "last", "6"]),
        ["status", "last"],
        rest(["status", "none"]),
    ],
    ids=" ".join,
)
def test_a_command_prints_the_same_here_and_on_aws(both: tuple[Shell, Shell], command: list[str]) -> None:
    """Both streams and the exit code, but for ids, times, speeds and costs."""
    here, there = (shell(*command) for shell in both)
    assert alike(there.stdout) == alike(here.stdout)
    assert alike(there.stderr) == alike(here.stderr)
    assert there.returncode == here.returncode


def test_costs_are_what_the_workers_were_billed_for(both: tuple[Shell, Shell]) -> None:
    """Of a run whose fleet is closed: each task's time, a minute at least, and its address."""
    told = json.loads(both[1]("costs", "--by", "site", "--json").stdout)
    (row,) = told["rows"]
    assert (told["backend"], told["would_have_cost"], row["runs"], row["failed"]) == ("aws", False, 1, 2)
    assert row["worker_hours"] >= round(1 / 60, 6)
    assert 0 < row["by_component"].pop("requests") < 0.001
    assert 0 <= row["by_component"].pop("logs") < 0.0001  # what the functions of these tests print
    assert row["by_component"] == {
        "compute": pytest.approx(row["worker_hours"] * (0.04048 + 2 * 0.004445), abs=2e-6),
        "public addresses": pytest.approx(row["worker_hours"] * 0.005, abs=2e-6),
    }


def test_what_a_run_cost_is_what_its_workers_were_charged_for(both: tuple[Shell, Shell]) -> None:
    """Once they have stopped: the account of its fleet tells, and not the time of its slots; here it is an estimate."""
    here, there = (json.loads(shell("status", "last", "--json").stdout) for shell in both)
    assert not here["aws_estimate"]["metered"] and here["spent_usd"] is None
    assert there["aws_estimate"]["metered"] and there["spent_usd"] > 0
    (row,) = json.loads(both[1]("costs", "--json").stdout)["rows"]
    assert there["aws_estimate"]["usd"] == pytest.approx(row["usd"], abs=2e-6) and row["runs"] == 1
    (listed,) = json.loads(both[1]("runs", "--json").stdout)
    assert listed["aws_estimate"]["usd"] == pytest.approx(listed["spent_usd"], abs=2e-6)
    parts, whole = (each["aws_estimate"]["by_component"] for each in (listed, there))
    assert parts.keys() == whole.keys() and parts["requests"] == whole["requests"] > 0


def test_what_a_detached_map_may_cost_an_hour_and_a_month(shell: Shell, aws: Aws) -> None:
    """Two workers of $0.054 under $0.11, whoever drives it; and none where a month's budget of its tag is used up."""
    asked = ["map", "work:slow", "-i", "items.jsonl", "--detach", "--workers", "4", "--chunk-size", "1"]
    name = shell(*asked, "--max-hourly-cost", "0.11", "--tag", "team=a").stdout.strip()
    assert shell("attach", name).returncode == 0
    assert len(aws.tasks()) == 2
    shell.env["STARBURST_CONFIG"] = str(shell.folder / "budget.toml")
    (shell.folder / "budget.toml").write_text(aws.settings(monthly_budget=["team=a: 0.0003"]))
    done = shell(*asked, "--tag", "team=a")
    assert done.returncode == 2
    assert re.search(
        rf"of the monthly budget of team=a, \$0\.00030, are used .*, by 1 run \({BY.replace(' Spot', '')}", done.stderr
    )
    assert shell("resume", name).returncode == 0  # nothing is left of it to be run
    assert values(shell(*asked[:3], "items.jsonl", "--tag", "team=b", "--workers", "1").stdout) == [*range(6)]


BY = r"us-east-1, Fargate Spot x86, prices of 20\d\d-\d\d-\d\d"


def test_what_a_run_costs_so_far_says_by_which_prices(shell: Shell, aws: Aws) -> None:
    """Once above a bar that fits into 80 columns with its counts; in a log's line, and in how the run stands."""
    asked = ["map", "work:slow", "-i", "items.jsonl", "--workers", "2", "--spot", "--budget", "5", "--label", "x" * 50]
    near, far = os.openpty()
    fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with subprocess.Popen(
        [*COMMAND, *asked, "-o", "out.jsonl"],
        stdin=far,
        stdout=far,
        stderr=far,
        cwd=shell.folder,
        env=shell.environment(TERM="xterm", COLUMNS="80"),
    ) as process:
        os.close(far)
        shown = b""
        with suppress(OSError):  # once nobody has it open any more
            while more := os.read(near, 10_000):
                shown += more
    os.close(near)
    assert process.returncode == 0
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()))
    assert [line for line in lines if re.fullmatch(f"costs so far are for {BY}", line)]
    bars = [line for line in lines if " of $5.00" in line]
    assert bars and all(len(line) <= 80 and re.search(r" [0-6]/6 .* · \$0\.00\d* of \$5\.00 ", line) for line in bars)
    told = " ".join(shell("status", "last").stdout.split())
    for asked_of in (["runs"], ["costs"], ["plan", "work:slow", "-i", "items.jsonl", "--seconds", "9", "--spot"]):
        done = shell(*asked_of)
        assert re.search(BY, done.stdout + done.stderr), asked_of
    assert re.search(rf" spent \$0\.00\d+ of \$5\.00 \({BY}\) ", told), told
    backend = open_place(aws_text(aws.site))
    (run,) = list_runs(backend=backend)
    status = replace(run.status(), state=RunState.RUNNING)
    backend.close()
    for text in (line(status), progress_text(status, 6, "a burst")):
        assert re.search(rf"(, | · )\$0\.00\d+ of \$5\.00 \({BY}\)", text)


def test_a_detached_map_is_attached_to_and_leaves_nothing(shell: Shell, aws: Aws) -> None:
    """Its id comes at once; `attach` stays to the end and sums up; then no task and no queue is left."""
    name = shell("map", "work:slow", "-i", "items.jsonl", "--detach", "--workers", "2").stdout.strip()
    done = shell("attach", name)
    assert done.returncode == 0
    assert "succeeded: 6 items in " in done.stderr
    assert values(shell("results", name).stdout) == [0, 1, 2, 3, 4, 5]
    nothing_runs(aws, name)


@pytest.mark.rest
def test_a_detached_map_without_room_says_who_waits_for_it(shell: Shell, aws: Aws) -> None:
    """That is a process of this machine, which may end: the command that goes on then is named."""
    aws.set(on_demand_vcpu=0)
    done = shell("map", "work:slow", "-i", "items.jsonl", "--detach", "--workers", "2")
    name = done.stdout.strip()
    assert "no worker could be started yet" in done.stderr and f"`starburst attach {name}` does" in done.stderr
    shell("cancel", name)


def test_what_nobody_of_ours_wrote_of_a_fleet_costs_that_alone(shell: Shell, aws: Aws) -> None:
    """It is told, counts for nothing, and no run of the name of none is the last."""
    s3, bucket = aws.boto("s3"), aws.site["bucket"]
    keys = ("fleets/fleet-20260101-000000-0000000a/workers/granted-000000-0000-00", "runs/z/spec")
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"junk")
    for command in (("status",), ("fleets",), ("gc", "--dry-run")):
        done = shell(*command, **aws.as_user("operator"))
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert "a record of fleet-20260101-000000-0000000a counts for nothing: " in shell("fleets").stderr
    assert "no run" in shell("status", "last").stderr
    for key in keys:
        s3.delete_object(Bucket=bucket, Key=key)


def test_cancel_ends_a_run_and_its_tasks(shell: Shell, aws: Aws) -> None:
    """From another process than the one that drives it; a second time it is no error."""
    name = shell("map", "work:slow", "-i", "-", "--detach", "--workers", "1", stdin="1\n" * 100).stdout.strip()
    assert "is cancelled; " in shell("cancel", name).stdout
    assert json.loads(shell("cancel", "last", "--json").stdout)["state"] == "cancelled"
    nothing_runs(aws, name)


def test_what_is_asked_of_aws_is_in_the_documented_policy(shell: Shell, aws: Aws) -> None:
    """From a run's start to its removal, with what its worker asks; images and builds are looked up in the sources."""
    aws.requests(reset=True)
    assert shell("map", "work:picky", "-i", "items.jsonl", "--workers", "1").returncode == 1
    assert shell("report", "last").returncode == 0
    assert shell("prune", STARBURST_KEEP_DAYS="0").returncode == 0
    assert shell("remove", "last").returncode == 0
    asked = {action_of(f"{service}:{operation}") for service, operation in aws.requests()}
    assert asked >= {"s3:DeleteObject", "sqs:CreateQueue", "ecs:RunTask"}
    assert asked - policies()["driver"] == set()


def nothing_runs(aws: Aws, run: str) -> None:
    """No task, no queue and no driver, in a moment."""
    aws.until(lambda: not any(aws.leftovers()[kind] for kind in ("tasks", "processes", "queues")))
    aws.until(lambda: not drivers(run))


def drivers(run: str) -> list[Path]:
    """Processes that name the run."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if run.encode() in file.read_bytes():
                found.append(file)
    return found


# --- wrong settings ---------------------------------------------------------------------------------------------------

NOWHERE = {"AWS_SHARED_CREDENTIALS_FILE": "none", "AWS_CONFIG_FILE": "none"}


@pytest.mark.parametrize(
    ("edit", "env", "code", "says"),
    [
        (("bucket = ", "bukket = "), {}, 2, "[site] has no 'bukket': known are name, region, bucket"),
        (("cluster = ", "#"), {}, 2, "[site] lacks cluster"),
        (('"us-east-1"', '"here"'), {}, 2, "region='here': give an AWS region such as us-east-1"),
        (("starburst-bed-1", "no-such-bucket-1"), {}, 2, "make the site's bucket, or correct its name in the settings"),
        (('"us-east-1"', '"eu-west-1"'), {}, 2, "correct the site's region or signing_secret in the settings"),
        (
            ("", ""),
            {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", **NOWHERE},
            5,
            "set AWS_PROFILE, or give the",
        ),
        (("", ""), {"AWS_PROFILE": "nobody", **NOWHERE}, 5, "The config profile (nobody) could not be found"),
    ],
    ids=["unknown field", "missing field", "no region", "no such bucket", "wrong region", "no credentials", "profile"],
)
def test_wrong_settings_are_one_line(
    shell: Shell, aws: Aws, edit: tuple[str, str], env: dict[str, str], code: int, says: str
) -> None:
    """What is wrong and what to do about it, with no word of the SDK's, before anything is launched."""
    config = shell.folder / "config.toml"
    config.write_text(Path(aws.env["STARBURST_CONFIG"]).read_text().replace(*edit))
    with suppress(ValueError):  # no policy is printed for what is no site
        aws.grant(tomllib.loads(config.read_text())["site"])
    for command in (["runs"], ["map", "work:double", "-i", "items.jsonl"]):
        done = shell(*command, STARBURST_CONFIG=str(config), **env)
        assert says in one_error(done)
        assert done.returncode == code
    assert aws.tasks() == []


def test_a_key_that_can_be_guessed_is_refused(shell: Shell, aws: Aws) -> None:
    """It signs all that is unpickled: one that is too short is told, with what to do."""
    secret = aws.boto("secretsmanager").create_secret(Name="short", SecretString="k" * 31)
    config = shell.folder / "config.toml"
    config.write_text(aws.settings(signing_secret=secret["ARN"]))
    done = shell("runs", STARBURST_CONFIG=str(config))
    assert "has 31 bytes, and a signing key has 32 at least" in one_error(done)
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("service", "error", "what"),
    [
        ("secretsmanager", "AccessDeniedException", "secretsmanager:GetSecretValue"),
        ("s3", "AccessDenied", "fleets/fleet-"),
        ("sqs", "AccessDenied", "sqs:CreateQueue"),
    ],
)
def test_what_is_not_allowed_is_one_line(shell: Shell, aws: Aws, service: str, error: str, what: str) -> None:
    """Exit code 5; the line names the action or object, AWS's own words, and what to do."""
    aws.fault(service=service, code=error, status=400 if service == "secretsmanager" else 403)
    done = shell("map", "work:double", "-i", "items.jsonl")
    line = one_error(done)
    assert done.returncode == 5
    assert "not allowed to " in line and what in line
    assert line.endswith("Injected by the test bed.: let these credentials do it, or use others")


@pytest.mark.parametrize("operation", ["DescribeTaskDefinition", "RunTask"])
def test_workers_that_may_not_be_launched_stop_the_run(shell: Shell, aws: Aws, operation: str) -> None:
    """The run is over, in `runs` as well, and the summary says which permission is missing."""
    aws.fault(service="ecs", operation=operation, code="AccessDeniedException", status=400)
    done = shell("map", "work:double", "-i", "items.jsonl")
    assert done.returncode == 5
    assert "stopped: 0 of 6 items in " in done.stderr
    assert f"ecs:{operation}" in done.stderr and "Traceback" not in done.stderr
    (run,) = json.loads(shell("runs", "--json").stdout)
    assert run["state"] == "stopped"
    nothing_runs(aws, run["id"])


MAY = [
    f"you may {service}"
    for service in ("cloudwatch", "ec2", "ecr", "ecs", "iam", "logs", "s3", "secretsmanager", "servicequotas", "sqs")
]


def test_the_doctor_tells_what_is_fine_and_what_is_wrong(aws: Aws, shell: Shell) -> None:
    """A line a part, and a worker that runs; a cluster that is not there, a clock that is off, and what to do."""
    shell.env.update(aws.as_user("operator"))
    fine = shell("doctor", "--from-worker", "--json")
    assert fine.returncode == 0, fine.stdout + fine.stderr
    parts = {part["part"]: part for part in json.loads(fine.stdout)}
    known = ["credentials", "clock", "region", "bucket", "cluster", "queues", "signing key", "log", "images"]
    known += ["network", "instances", "quota"]
    roles = ["execution role", "task role"]
    assert [*parts] == ["site", "python", *known, "permissions", *MAY, *roles, "worker"]
    assert [name for name, part in parts.items() if not part["fine"]] == ["python"]  # the image is the user's
    assert parts["python"]["told"].endswith(": the worker below tells")
    assert parts["you may sqs"]["told"].startswith("CreateQueue, TagQueue, DeleteQueue, GetQueueAttributes")
    assert parts["worker"]["told"].endswith("it reached bucket, queues, registry, log and key")
    ecs, of = aws.boto("ecs"), {"cluster": aws.site["cluster"]}
    aws.until(lambda: not aws.leftovers()["tasks"])
    for provider in ecs.describe_capacity_providers(**of)["capacityProviders"]:
        ecs.delete_capacity_provider(**of, capacityProvider=provider["name"])
    ecs.delete_cluster(**of)
    wrong = shell("doctor", "--from-worker", "--json")
    assert wrong.returncode == 5
    assert [part["part"] for part in json.loads(wrong.stdout) if part["fine"] is False] == ["cluster", "instances"]


@pytest.mark.parametrize("who", ["operator", "driver"])
def test_the_doctor_names_each_permission_that_lacks(aws: Aws, shell: Shell, who: str) -> None:
    """As IAM reckons it for who may ask that; else as tried, and then it says of which nobody could tell."""
    aws.set(denied=["ecs:StopTask", "s3:PutObject", "sqs:CreateQueue"])
    done = shell("doctor", **aws.as_user(who))
    wrong = [line for line in done.stdout.splitlines() if line.startswith("WRONG")]
    arn = "arn:aws:ecs:us-east-1:123456789012:task/starburst-bed/none"
    assert f"WRONG  you may ecs: not ecs:StopTask on {arn}: allow it, as `starburst iam-policy driver` " in wrong[0]
    assert "you may s3: not s3:PutObject on arn:aws:s3:::starburst-bed-123456789012/none: " in wrong[1]
    assert done.returncode == 5
    if who == "operator":
        assert "you may sqs: not sqs:CreateQueue on arn:aws:sqs:us-east-1:123456789012:starburst-bed-none" in wrong[2]
        assert [line for line in done.stdout.splitlines() if line.startswith("?")][1:] == []
    else:
        assert len(wrong) == 2
        assert "ok     permissions: tried, as iam:SimulatePrincipalPolicy is not allowed\n" in done.stdout
        assert "?      you may iam: could not tell: PassRole\n" in done.stdout
        assert "?      task role: could not tell: iam:SimulatePrincipalPolicy is not allowed\n" in done.stdout
    assert aws.tasks() == [] and aws.leftovers()["queues"] == []


def test_a_role_that_is_not_there_is_told(aws: Aws, shell: Shell) -> None:
    """As are those permissions that one which setup made has lost."""
    config = shell.folder / "config.toml"
    config.write_text(aws.settings(task_role="arn:aws:iam::123456789012:role/nobody"))
    told = shell("doctor", STARBURST_CONFIG=str(config), **aws.as_user("operator"))
    assert "WRONG  task role: " in told.stdout and "Could not find entity" in told.stdout


# --- quotas -----------------------------------------------------------------------------------------------------------


def test_a_quota_is_shown_and_raised(shell: Shell, aws: Aws) -> None:
    """What is allowed, in use and asked for; a request for the next round number, its answer, and no second one."""
    shell.env.update(aws.as_user("operator"))
    aws.set(on_demand_vcpu=6, others_vcpu=2, quota_answer_s=3600.0)
    assert re.search(r"Fargate vCPU quota +6 +2 +4 +applied", shell("quota", "status").stdout)
    assert "give one of them" in one_error(shell("quota", "status", "--all", "--spot"))
    assert "--ec2 ''" in one_error(shell("quota", "status", "--ec2", ""))
    assert "allowed already" in one_error(shell("quota", "request", "6", "--yes"))
    assert "8 vCPU, and --workers 5: give one" in one_error(shell("quota", "request", "8", "--workers", "5", "--yes"))
    asked = shell("quota", "request", "--yes", "--json")
    assert {"vcpu": 16.0, "status": "PENDING"}.items() <= json.loads(asked.stdout).items()
    assert "a request is open" in one_error(shell("quota", "request", "100", "--yes"))
    aws.set(quota_answer_s=0.0)
    answered = shell("quota", "watch")
    assert (answered.returncode, answered.stderr) == (0, "Fargate vCPU quota, 16 vCPU: approved\n")
    assert re.search(r"Fargate vCPU quota +16 +2 +14 +applied", shell("quota", "status").stdout)


def test_a_request_that_somebody_at_aws_decides_is_open(shell: Shell, aws: Aws) -> None:
    """It has a case beside its own id, is waited for, and no second one is made meanwhile."""
    shell.env.update(aws.as_user("operator"))
    aws.set(quota_answer="CASE_OPENED", quota_answer_s=0.0)
    made = json.loads(shell("quota", "request", "9000", "--yes", "--json").stdout)
    (found,) = json.loads(shell("quota", "status", "--json").stdout)["requests"]
    assert (found["id"], found["status"], found["case"]) == (made["id"], "CASE_OPENED", "case-1")
    assert "a request is open" in one_error(shell("quota", "request", "10000", "--yes"))
    watching = shell.start("quota", "watch", "--every", "1")
    assert watching.stdout is not None and watching.stderr is not None
    assert watching.stderr.readline() == "Fargate vCPU quota, 9000 vCPU: case opened (case case-1)\n"
    aws.set(quota_answer="APPROVED")
    assert watching.stderr.read() == "Fargate vCPU quota, 9000 vCPU: approved (case case-1)\n"
    assert watching.wait(60) == 0
    watching.stdout.close()
    watching.stderr.close()


@pytest.mark.rest
def test_a_request_for_more_may_be_denied(shell: Shell, aws: Aws) -> None:
    """By AWS, which the exit code tells; or to who asks, by the name of the right."""
    shell.env.update(aws.as_user("operator"))
    aws.set(quota_answer="DENIED", quota_answer_s=0.0)
    assert shell("quota", "request", "--workers", "5000", "--cpu", "4", "--spot", "--yes").returncode == 0
    assert shell("quota", "watch", "--spot").returncode == 1
    aws.fault(service="servicequotas", code="AccessDeniedException", status=400, times=100)
    assert "RequestServiceQuotaIncrease" in one_error(shell("quota", "request", "9000", "--yes"))
    assert "assumed to be 6" in shell("quota", "status").stderr
