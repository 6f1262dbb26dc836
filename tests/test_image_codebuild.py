"""CodeBuild makes images in the site's account: they run, failures are told, no build goes on that nobody wants.

The test bed's CodeBuild runs the buildspec with bash and the tests' engine, on this machine and for its platform.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import signal
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from starburst_common import Cluster, starburst_map
from starburst_common.aws.builds import PackedSource, part_tags, project, request, why_failed
from starburst_common.aws.clients import Clients
from starburst_common.aws.codebuild import CodeBuildBuilder
from starburst_common.aws.ecr import PART, EcrRepository
from starburst_common.aws.store import S3Objects
from starburst_common.environment import Environment
from starburst_common.errors import CannotBuild, Denied
from starburst_common.image import oci
from starburst_common.image.build import PYTHON
from starburst_common.image.recipe import Recipe
from starburst_common.image.registry import Registry
from tests.indexes import running_index
from tests.places import environment
from tests.testbed.bed import Bed as Aws
from tests.testbed.conditions import ACCOUNT
from tests.testbed.engine import Engine

SECRET = "an-index-password"
DOCKERS = "application/vnd.docker.distribution.manifest.v2+json"
BOTH = ("linux/amd64", "linux/arm64")
HASHED = (
    "six==1.17.0 --hash=sha256:4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274 "
    "--hash=sha256:ff70335d468e7eb6ec65b95b99d3a2836546063f63acc5171de367e834932a81"
)


class Lab:
    """A site whose images CodeBuild makes, and what became of them."""

    def __init__(self, aws: Aws) -> None:
        self.aws = aws
        aws.grant({**aws.site, "build_role": aws.build_role})
        self.clients = Clients(aws.site["region"], owner=ACCOUNT)
        self.store = S3Objects(aws.site["bucket"], self.clients)
        self.repository = EcrRepository(self.clients, aws.repository, tags={})
        self.repository.ensure()
        self.told: list[str] = []

    def builder(self, role: str | None = None) -> CodeBuildBuilder:
        """One that looks often."""
        role = self.aws.build_role if role is None else role
        marks = {"starburst:site": "bed"}
        return CodeBuildBuilder(self.clients, self.store, site="bed", role=role, tags=marks, look_s=0.1)

    def build(self, recipe: Recipe, tell: Any = None) -> str:
        """Build; what is told is kept."""
        return self.builder().build(recipe, self.repository.access(), tell or self.told.append)

    def tags(self) -> list[str]:
        """All in the repository, parts too."""
        return tags(self.aws)

    def builds(self) -> list[dict[str, Any]]:
        """All there were, as CodeBuild tells them."""
        client = self.aws.boto("codebuild")
        ids = client.list_builds()["ids"]
        return list(client.batch_get_builds(ids=ids)["builds"]) if ids else []

    def statuses(self) -> list[str]:
        """Theirs, once all are over."""
        self.aws.until(lambda: all(build["buildComplete"] for build in self.builds()))
        return [build["buildStatus"] for build in self.builds()]

    def asked(self, operation: str) -> int:
        """How often CodeBuild was."""
        return self.aws.requests().get(("codebuild", operation), 0)

    def push(self, tag: str, platform: str, kind: str = oci.MANIFEST) -> oci.Manifest:
        """A tiny image for one platform."""
        access = self.repository.access()
        registry = Registry.of(access)
        system, _, architecture = platform.partition("/")
        config = json.dumps({"os": system, "architecture": architecture}).encode()
        registry.put_blob(access.repository, oci.digest(config), config)
        manifest = {
            "schemaVersion": 2,
            "mediaType": kind,
            "config": {
                "mediaType": oci.CONFIG if kind == oci.MANIFEST else "application/vnd.docker.container.image.v1+json",
                "digest": oci.digest(config),
                "size": len(config),
            },
            "layers": [],
        }
        body = json.dumps(manifest).encode()
        return oci.Manifest(body, kind, registry.put_manifest(access.repository, tag, body, kind))


@pytest.fixture
def lab(container_aws: Aws) -> Iterator[Lab]:
    """A site with a repository that is empty."""
    opened = Lab(container_aws)
    yield opened
    opened.clients.close()


def tags(aws: Aws) -> list[str]:
    """All of the site's repository."""
    details = aws.boto("ecr").describe_images(repositoryName=aws.repository)["imageDetails"]
    return sorted(tag for detail in details for tag in detail.get("imageTags", []))


def sources(aws: Aws) -> list[str]:
    """What builds left in the bucket."""
    return [key for key in aws.leftovers()["objects"] if key.startswith("builds/")]


def long(word: str = "") -> tuple[str, ...]:
    """A step that says so, and then takes long."""
    return (f"echo it takes long; sleep 500; : {word or token_hex(8)}",)


# --- an image ---------------------------------------------------------------------------------------------------------


def test_an_image_is_built_by_codebuild_and_runs(
    engine: Engine, container_aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """Its packages are there for workers; the log was told, the source is gone; the next run asks CodeBuild nothing."""

    def version(_: int) -> str:
        return str(import_module("six").__version__)

    config = tmp_path / "config.toml"
    image = f'[image]\nbase = "{engine.recipe().base}"\nrequirements = "needs.txt"\nbuilder = "codebuild"\n'
    config.write_text(container_aws.settings(image=False, build_role=container_aws.build_role) + image)
    (tmp_path / "needs.txt").write_text(f"{HASHED}\n")
    monkeypatch.chdir(tmp_path)
    nowhere = {"DOCKER_HOST": "unix:///nowhere"}  # no engine is needed here
    with environment({**nowhere, "STARBURST_CONFIG": str(config)}), caplog.at_level(logging.INFO, "starburst.image"):
        assert starburst_map(version, range(3), workers=1, progress=False) == ["1.17.0"] * 3
        (tag,) = tags(container_aws)
        for words in (f"building the image {tag} with codebuild", "CodeBuild for linux/", "Entering phase BUILD"):
            assert words in caplog.text
        assert any(line.startswith("Successfully tagged") for line in caplog.messages)
        assert sources(container_aws) == []
        caplog.clear()
        container_aws.requests(reset=True)
        with Cluster(workers=1, progress=False):
            pass
        assert caplog.text == ""
        assert not [operation for service, operation in container_aws.requests() if service == "codebuild"]


def test_what_is_there_is_not_built(engine: Engine, lab: Lab) -> None:
    """Nobody but the registry is asked."""
    recipe = engine.recipe()
    pushed = lab.push(recipe.tag, "linux/amd64")
    assert lab.build(recipe) == pushed.digest
    assert not [operation for service, operation in lab.aws.requests() if service == "codebuild"]


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_step_that_fails_is_told_with_what_it_said(engine: Engine, lab: Lab) -> None:
    """The phase's words and the log's last lines; neither tag nor source stays."""
    with pytest.raises(CannotBuild) as error:
        lab.build(engine.recipe(build_steps=("echo out of luck >&2; exit 3",)))
    said = str(error.value).splitlines()
    assert said[0].startswith("CodeBuild's build starburst-bed:") and said[0].endswith("failed")
    assert said[1].startswith("BUILD: COMMAND_EXECUTION_ERROR Error while executing command:")
    assert "out of luck" in said
    assert "out of luck" in lab.told
    assert (lab.tags(), sources(lab.aws), lab.statuses()) == ([], [], ["FAILED"])


@pytest.mark.rest
@pytest.mark.parametrize("where", ["told", "signal"])
def test_who_interrupts_ends_the_build(engine: Engine, lab: Lab, where: str) -> None:
    """Raised where lines are told, or by Ctrl-C while it waits: it is paid for no longer."""
    seen: list[str] = []

    def tell(line: str) -> None:
        if line == "it takes long":
            seen.append(line)
            if where == "told":
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        lab.build(engine.recipe(build_steps=long()), tell)
    assert seen == ["it takes long"]
    assert (lab.statuses(), lab.tags(), sources(lab.aws)) == (["STOPPED"], [], [])


@pytest.mark.rest
def test_who_interrupts_at_the_first_word_ends_the_build_too(engine: Engine, lab: Lab) -> None:
    """From when there is a build, somebody sees to its end."""

    def tell(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lab.build(engine.recipe(build_steps=long()), tell)
    assert (lab.statuses(), lab.tags(), sources(lab.aws)) == (["STOPPED"], [], [])


@pytest.mark.rest
def test_a_build_that_somebody_stops_is_told_as_that(engine: Engine, lab: Lab) -> None:
    """In the console, perhaps."""

    def tell(line: str) -> None:
        if line == "it takes long":
            lab.aws.boto("codebuild").stop_build(id=lab.builds()[0]["id"])

    with pytest.raises(CannotBuild, match="was stopped by somebody"):
        lab.build(engine.recipe(build_steps=long()), tell)


@pytest.mark.rest
def test_a_build_has_an_hour(engine: Engine, lab: Lab) -> None:
    """Then CodeBuild ends it, and the error says so."""

    def tell(line: str) -> None:
        if line == "it takes long":
            lab.aws.elapse(3600)

    with pytest.raises(CannotBuild, match=r"took longer than 60 minutes\nBUILD: BUILD_TIMED_OUT Build has timed out"):
        lab.build(engine.recipe(build_steps=long()), tell)
    assert (lab.statuses(), lab.tags(), sources(lab.aws)) == (["TIMED_OUT"], [], [])


def test_without_a_role_it_says_which_setting(engine: Engine, lab: Lab) -> None:
    """Before anything is asked or stored."""
    recipe = engine.recipe()
    assert lab.builder().lacking(recipe) == ""
    builder = lab.builder(role="")
    assert "`build_role` in the settings' [site]" in builder.lacking(recipe)
    with pytest.raises(CannotBuild, match="build_role"):
        builder.build(recipe, lab.repository.access(), lab.told.append)
    assert not [operation for service, operation in lab.aws.requests() if service == "codebuild"]


@pytest.mark.rest
def test_what_codebuild_refuses_is_told_with_what_to_do(engine: Engine, lab: Lab) -> None:
    """A role that it may not assume; more builds at once than the account may have. Nothing is left of either."""
    recipe = engine.recipe()
    with pytest.raises(CannotBuild, match=r"sts:AssumeRole.*: look whether .* `build_role`"):
        lab.builder("arn:aws:iam::123456789012:role/nobody").build(recipe, lab.repository.access(), lab.told.append)
    lab.aws.fault(service="codebuild", operation="StartBuild", code="AccountLimitExceededException")
    with pytest.raises(CannotBuild, match="Service Quotas"):
        lab.build(recipe)
    assert (lab.builds(), lab.tags(), sources(lab.aws)) == ([], [], [])


def test_a_platform_without_a_machine_is_told_before(engine: Engine, lab: Lab) -> None:
    """With those that there are."""
    recipe = engine.recipe(platforms=("linux/amd64", "linux/riscv64"))
    assert "linux/amd64 and linux/arm64 only, not for linux/riscv64" in lab.builder().lacking(recipe)


@pytest.mark.parametrize(
    ("status", "end"),
    [
        ("FAILED", "failed"),
        ("FAULT", "failed by a fault of CodeBuild's own: try again"),
        ("TIMED_OUT", "took longer than 60 minutes"),
        ("STOPPED", "was stopped by somebody"),
    ],
)
def test_each_end_has_its_sentence(status: str, end: str) -> None:
    """Then come the phases' own words, and what was printed last."""
    phases = [
        {"phaseType": "PROVISIONING", "contexts": [{"statusCode": "", "message": ""}]},
        {"phaseType": "BUILD", "contexts": [{"statusCode": "CODE", "message": "why"}]},
    ]
    said = why_failed({"id": "p:1", "buildStatus": status, "phases": phases}, "linux/amd64", ["last"])
    assert said == f"CodeBuild's build p:1 for linux/amd64 {end}\nBUILD: CODE why\nlast"


@pytest.mark.rest
def test_who_is_slower_takes_the_image_that_is_there(engine: Engine, lab: Lab) -> None:
    """Of two who build the same all the same, none fails: a tag stays as it is."""
    recipe = engine.recipe()
    pushed: list[oci.Manifest] = []

    def tell(line: str) -> None:
        if line.startswith("CodeBuild for "):
            pushed.append(lab.push(recipe.tag, "linux/amd64"))

    assert lab.build(recipe, tell) == pushed[0].digest
    assert (lab.statuses(), lab.tags(), sources(lab.aws)) == (["FAILED"], [recipe.tag], [])


@pytest.mark.rest
def test_what_fails_on_the_way_is_waited_out(engine: Engine, lab: Lab, caplog: Any) -> None:
    """Throttling, failures, cut connections, expired credentials: the build goes on, and is one."""
    for service, operation in (("codebuild", "BatchGetBuilds"), ("logs", "GetLogEvents")):
        kinds: list[dict[str, Any]] = [{"code": "ExpiredTokenException"}, {"code": "ThrottlingException"}]
        kinds += [{"status": 500}, {"reset": True}]
        for skip, fault in enumerate(kinds):
            lab.aws.fault(service=service, operation=operation, skip=skip, **fault)
    lab.aws.fault(service="codebuild", operation="StartBuild", reset=True, after=True)
    recipe = engine.recipe()
    with caplog.at_level(logging.WARNING, "starburst.aws"):
        lab.build(recipe)
    assert [fault["hits"] for fault in lab.aws.faults()] == [1] * 9
    assert "waiting for " in caplog.text
    assert (lab.statuses(), lab.tags()) == (["SUCCEEDED"], [recipe.tag])
    client = lab.aws.boto("logs")
    where = lab.builds()[0]["logs"]
    pages = client.get_paginator("filter_log_events").paginate(
        logGroupName=where["groupName"], logStreamNames=[where["streamName"]]
    )
    assert lab.told[1:] == [each["message"].rstrip() for page in pages for each in page["events"]]


# --- the project ------------------------------------------------------------------------------------------------------


@pytest.mark.rest
def test_two_who_make_the_project_both_go_on(engine: Engine, lab: Lab) -> None:
    """It is made once, marked as the site's; another role in the settings is another in the project."""
    lab.aws.fault(service="codebuild", operation="CreateProject", delay_s=1.0, times=2)

    def build(word: str, role: str | None = None) -> None:
        recipe = engine.recipe(platforms=BOTH, build_steps=(f"echo {word}",))
        for platform, tag in part_tags(recipe):  # so there is nothing left to do but to join them
            lab.push(tag, platform)
        lab.builder(role).build(recipe, lab.repository.access(), lab.told.append)
        assert recipe.tag in lab.tags()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(build, ("one", "another")))
    assert lab.asked("CreateProject") == 2
    client, iam = lab.aws.boto("codebuild"), lab.aws.boto("iam")
    (made,) = client.batch_get_projects(names=["starburst-bed"])["projects"]
    assert (made["tags"], made["serviceRole"]) == ([{"key": "starburst:site", "value": "bed"}], lab.aws.build_role)
    statement = {"Effect": "Allow", "Principal": {"Service": "codebuild.amazonaws.com"}, "Action": "sts:AssumeRole"}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    name = f"other-{token_hex(4)}"
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    lab.aws.grant({**lab.aws.site, "build_role": role})
    build("a third", role)
    assert lab.asked("CreateProject") == 2
    assert client.batch_get_projects(names=["starburst-bed"])["projects"][0]["serviceRole"] == role


def test_a_role_that_codebuild_does_not_know_yet_is_waited_for(engine: Engine, lab: Lab) -> None:
    """And said (IAM User Guide, "Changes that I make are not always immediately visible")."""
    text = f"CodeBuild is not authorized to perform: sts:AssumeRole on {lab.aws.build_role}"
    fault = {"service": "codebuild", "operation": "CreateProject", "code": "InvalidInputException", "message": text}
    lab.aws.fault(**fault, times=2)
    recipe = engine.recipe(platforms=BOTH, build_steps=("echo new",))
    for platform, tag in part_tags(recipe):  # so there is nothing left to do but to join them
        lab.push(tag, platform)
    lab.build(recipe)
    assert recipe.tag in lab.tags() and lab.asked("CreateProject") == 3
    assert [line for line in lab.told if line.endswith("yet: waiting, as a new one takes a minute")] == lab.told[:1]


def test_requests_are_what_codebuild_takes() -> None:
    """Docker needs privileged mode; each platform has a machine of its own kind, and each try a token of its own."""
    asked = {platform: request("starburst-lab", platform, "{}") for platform in BOTH}
    assert {each["environmentTypeOverride"] for each in asked.values()} == {"LINUX_CONTAINER", "ARM_CONTAINER"}
    assert ["x86_64" in asked[BOTH[0]]["imageOverride"], "aarch64" in asked[BOTH[1]]["imageOverride"]] == [True, True]
    assert all(each["privilegedModeOverride"] for each in asked.values())
    assert len({each["idempotencyToken"] for each in asked.values()}) == 2
    made = project("starburst-lab", "arn:aws:iam::1:role/build", {"starburst:site": "lab"})
    assert (made["environment"]["privilegedMode"], made["artifacts"]) == (True, {"type": "NO_ARTIFACTS"})


@pytest.mark.rest
def test_the_source_of_an_image_is_always_the_same(engine: Engine) -> None:
    """Down to the byte, whenever it is packed; and what is a program is packed as one."""
    packed = [PackedSource.of(engine.recipe(), "linux/amd64")]
    time.sleep(1.0)  # what times in a tar file are rounded to
    packed.append(PackedSource.of(engine.recipe(), "linux/amd64"))
    assert packed[0] == packed[1]
    assert packed[0].digest == hashlib.sha256(packed[0].body).hexdigest()
    with tarfile.open(fileobj=io.BytesIO(packed[0].body)) as opened:
        assert {"Dockerfile", "amd64/uv", "arguments.sh"} <= {*opened.getnames()}
        assert opened.getmember("amd64/uv").mode & 0o111


# --- what is in the bucket is not believed ----------------------------------------------------------------------------


def packed_as(text: str) -> bytes:
    """A source whose files all say so."""
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w:gz") as packed:
        for name in ("Dockerfile", "arguments.sh", "buildspec.yml"):
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            packed.addfile(entry, io.BytesIO(text.encode()))
    return body.getvalue()


def test_a_source_that_was_exchanged_is_not_built(engine: Engine, lab: Lab, tmp_path: Path) -> None:
    """By whoever may write there: nothing of it is run, nothing is pushed, and the error says so."""
    lab.aws.set(build_start_s=3.0)
    bucket, ran = lab.aws.site["bucket"], tmp_path / "ran"

    def exchange(line: str) -> None:
        if "CodeBuild for" in line:
            (key,) = sources(lab.aws)
            lab.aws.boto("s3").put_object(Bucket=bucket, Key=key, Body=packed_as(f"touch {ran}"))

    with pytest.raises(
        CannotBuild, match=r"INSTALL.*\n(.*\n)*s3://.* is not what was sent there: somebody has exchanged"
    ):
        lab.build(engine.recipe(), exchange)
    assert (lab.statuses(), lab.tags(), sources(lab.aws)) == (["FAILED"], [], [])
    assert not ran.exists()
    (build,) = lab.builds()
    assert "PRE_BUILD" not in [phase["phaseType"] for phase in build["phases"]], "it did not even log in"


# --- several platforms ------------------------------------------------------------------------------------------------


def test_parts_have_tags_that_expire_by_themselves(engine: Engine) -> None:
    """One platform is pushed as what it is; of several, each has a tag that no image of ours has."""
    one, both = engine.recipe(platforms=BOTH[:1]), engine.recipe(platforms=BOTH)
    assert part_tags(one) == [("linux/amd64", one.tag)]
    bare = both.tag.removeprefix("env-")
    assert part_tags(both) == [("linux/amd64", f"{PART}{bare}-amd64"), ("linux/arm64", f"{PART}{bare}-arm64")]


@pytest.mark.parametrize(
    ("kind", "wrapped"), [(oci.MANIFEST, False), (DOCKERS, False), (oci.MANIFEST, True)], ids=["oci", "docker", "index"]
)
def test_parts_are_joined_under_the_image_s_tag(engine: Engine, lab: Lab, kind: str, wrapped: bool) -> None:
    """Those that an earlier try left are not built again; engines push either kind of manifest, or an index of one."""
    recipe = engine.recipe(platforms=BOTH)
    access = lab.repository.access()
    registry = Registry.of(access)
    parts = {}
    for platform, tag in part_tags(recipe):
        parts[platform] = lab.push(f"of-{platform[6:]}" if wrapped else tag, platform, kind)
        if wrapped:
            registry.put_manifest(access.repository, tag, oci.index({platform: parts[platform].body}), oci.INDEX)
    digest = lab.build(recipe)
    joined = registry.manifest(access.repository, recipe.tag)
    assert joined is not None
    assert (joined.digest, joined.media_type) == (digest, oci.INDEX)
    told = {oci.platform(each["platform"]): (each["digest"], each["mediaType"]) for each in joined.content["manifests"]}
    assert told == {platform: (part.digest, kind) for platform, part in parts.items()}
    assert lab.asked("StartBuild") == 0
    assert [image.tag for image in lab.repository.images() if image.tag.startswith(("env-", PART))] == [recipe.tag]


@pytest.mark.rest
def test_what_an_engine_pushes_is_joined_with_what_was_there(engine: Engine, lab: Lab) -> None:
    """A try that got one platform done is gone on with: only the other is built, on its own kind of machine."""
    recipe = engine.recipe(platforms=BOTH)
    (_, own), (other, done) = part_tags(recipe)
    there = lab.push(done, other)
    lab.build(recipe)
    (build,) = lab.builds()
    assert (build["environment"]["type"], build["buildStatus"]) == ("LINUX_CONTAINER", "SUCCEEDED")
    access = lab.repository.access()
    registry = Registry.of(access)
    joined = registry.manifest(access.repository, recipe.tag)
    assert joined is not None
    assert oci.pick(joined, other) == there.digest
    assert oci.pick(joined, "linux/amd64") == registry.digest(access.repository, own)
    assert (lab.tags(), sources(lab.aws)) == (sorted([recipe.tag, own, done]), [])


def test_a_platform_that_cannot_be_built_ends_the_others(engine: Engine, lab: Lab) -> None:
    """At once, whichever it is: what they would make is of no use."""
    lab.aws.fault(
        service="codebuild", operation="StartBuild", match="ARM_CONTAINER", code="AccessDeniedException", delay_s=2.0
    )
    with pytest.raises(Denied, match="StartBuild"):
        lab.build(engine.recipe(platforms=BOTH, build_steps=long()))
    assert (lab.statuses(), lab.tags(), sources(lab.aws)) == (["STOPPED"], [], [])


# --- secrets ----------------------------------------------------------------------------------------------------------


def test_an_index_s_password_is_in_one_file_of_the_source_alone(engine: Engine, lab: Lab) -> None:
    """It installs from there; neither what CodeBuild shows, its log, nor the image has the word."""
    packed: list[bytes] = []

    def tell(line: str) -> None:
        lab.told.append(line)
        if not packed:
            (key,) = sources(lab.aws)
            packed.append(lab.aws.boto("s3").get_object(Bucket=lab.aws.site["bucket"], Key=key)["Body"].read())

    with running_index(SECRET) as index:
        index.add("mine", "1.0")
        (wheel,) = index.files["mine"].values()
        needs = Environment.of(PYTHON, f"mine==1.0 --hash=sha256:{hashlib.sha256(wheel).hexdigest()}")
        recipe = engine.recipe(needs)
        login = {"UV_INDEX_MINE_USERNAME": "me", "UV_INDEX_MINE_PASSWORD": SECRET}
        with environment({"UV_INDEX": f"mine={index.bare_url}", **login}):
            lab.build(recipe, tell)
    with tarfile.open(fileobj=io.BytesIO(packed[0])) as source:
        files = [(each.name, source.extractfile(each)) for each in source if each.isfile()]
        has = [name for name, file in files if file and SECRET.encode() in file.read()]
    assert has == ["arguments.sh"]
    assert "Successfully" in "\n".join(lab.told) and SECRET not in "\n".join(lab.told)
    assert SECRET not in json.dumps(lab.builds(), default=str)
    access = lab.repository.access()
    registry = Registry.of(access)
    manifest = registry.manifest(access.repository, recipe.tag)
    assert manifest is not None
    assert SECRET.encode() not in registry.blob(access.repository, manifest.content["config"]["digest"])
