"""What AWS documents of CodeBuild holds on the bed: builds really run."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from tests.testbed.bed import Bed


class Builds:
    """A project, and its builds."""

    def __init__(self, bed: Bed) -> None:
        self.bed = bed
        self.client = bed.boto("codebuild")
        bed.grant({**bed.site, "name": "lab", "build_role": bed.build_role, "repository": "starburst-lab"})

    def source(self, files: dict[str, str], key: str = "builds/source.zip") -> str:
        """Put a source; its location."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as packed:
            for name, text in files.items():
                packed.writestr(name, text)
        self.bed.boto("s3").put_object(Bucket=self.bed.site["bucket"], Key=key, Body=buffer.getvalue())
        return f"{self.bed.site['bucket']}/{key}"

    def project(self, location: str, **environment: Any) -> None:
        """Make the project."""
        self.client.create_project(
            name="starburst-lab",
            source={"type": "S3", "location": location},
            artifacts={"type": "NO_ARTIFACTS"},
            environment={
                "type": "LINUX_CONTAINER",
                "image": "aws/codebuild/amazonlinux-x86_64-standard:6.0",
                "computeType": "BUILD_GENERAL1_SMALL",
            }
            | environment,
            serviceRole=self.bed.build_role,
        )

    def start(self, **asked: Any) -> str:
        """Start a build; its id."""
        return str(self.client.start_build(projectName="starburst-lab", **asked)["build"]["id"])

    def get(self, build: str) -> dict[str, Any]:
        """As it is now."""
        found: dict[str, Any] = self.client.batch_get_builds(ids=[build])["builds"][0]
        return found

    def ended(self, build: str) -> dict[str, Any]:
        """Wait for its end."""
        self.bed.until(lambda: self.get(build)["buildComplete"], within_s=60)
        return self.get(build)

    def lines(self, build: dict[str, Any]) -> list[str]:
        """Its log."""
        events = self.bed.boto("logs").get_log_events(
            logGroupName=build["logs"]["groupName"], logStreamName=build["logs"]["streamName"], startFromHead=True
        )["events"]
        return [each["message"] for each in events]


@pytest.fixture
def builds(bed: Bed) -> Builds:
    """CodeBuild."""
    return Builds(bed)


def spec(**phases: Any) -> str:
    """A buildspec with these phases' commands."""
    whole = {name: each if isinstance(each, dict) else {"commands": each} for name, each in phases.items()}
    return json.dumps({"version": 0.2, "phases": whole})


def phases(build: dict[str, Any]) -> dict[str, str]:
    """Its phases, with their statuses."""
    return {each["phaseType"]: each.get("phaseStatus", "") for each in build["phases"]}


def test_a_build_runs_its_buildspec(bed: Bed, builds: Builds) -> None:
    """Phases run in one shell with the build's variables, the source unpacked; overrides win; the log has it all."""
    yaml = (
        "version: 0.2\nenv:\n  variables: {A: spec, B: spec}\nphases:\n  install:\n    commands:\n"
        "      - export WORD=kept && cd inner\n  build:\n    commands:\n"
        '      - echo "$A $B $C $WORD $(cat file)"\n      - test "$CODEBUILD_SRC_DIR" = "$(dirname "$PWD")"\n'
        "    finally:\n      - echo finally\n"
        "  post_build:\n    commands:\n      - echo ok=$CODEBUILD_BUILD_SUCCEEDING\n"
    )
    location = builds.source({"buildspec.yml": yaml, "inner/file": "content"})
    builds.project(
        location, environmentVariables=[{"name": "B", "value": "project"}, {"name": "C", "value": "project"}]
    )
    first = builds.start(environmentVariablesOverride=[{"name": "C", "value": "override"}], idempotencyToken="once")
    again = builds.start(environmentVariablesOverride=[{"name": "C", "value": "override"}], idempotencyToken="once")
    assert first == again
    with pytest.raises(ClientError, match="idempotency token was used before"):
        builds.start(idempotencyToken="once")
    build = builds.ended(first)
    assert (build["buildStatus"], build["currentPhase"]) == ("SUCCEEDED", "COMPLETED")
    assert list(phases(build)) == [
        *("SUBMITTED", "QUEUED", "PROVISIONING", "DOWNLOAD_SOURCE", "INSTALL", "PRE_BUILD", "BUILD", "POST_BUILD"),
        *("UPLOAD_ARTIFACTS", "FINALIZING", "COMPLETED"),
    ]
    assert build["logs"]["groupName"] == "/aws/codebuild/starburst-lab"
    printed = [line for line in builds.lines(build) if not line.startswith("[Container]")]
    assert printed == ["spec project override kept content", "finally", "ok=1"]
    bed.elapse(301)
    assert builds.start(idempotencyToken="once") != first


def test_a_command_that_fails_ends_the_build_with_its_code(builds: Builds) -> None:
    """The phase says which command failed and how; after build, post_build runs nevertheless."""
    build_fails = spec(build=["true", "exit 3", "echo never"], post_build=["echo ok=$CODEBUILD_BUILD_SUCCEEDING"])
    builds.project(builds.source({"buildspec.yml": build_fails}))
    build = builds.ended(builds.start())
    assert (build["buildStatus"], phases(build)["BUILD"], phases(build)["POST_BUILD"]) == (
        *("FAILED", "FAILED", "SUCCEEDED"),
    )
    failed = next(each for each in build["phases"] if each["phaseType"] == "BUILD")
    assert failed["contexts"] == [
        {
            "statusCode": "COMMAND_EXECUTION_ERROR",
            "message": "Error while executing command: exit 3. Reason: exit status 3",
        }
    ]
    assert "ok=0" in builds.lines(build)
    assert "never" not in builds.lines(build)
    build = builds.ended(builds.start(buildspecOverride=spec(pre_build={"commands": ["false"], "finally": ["echo f"]})))
    assert (phases(build)["PRE_BUILD"], "BUILD" in phases(build), "f" in builds.lines(build)) == ("FAILED", False, True)


@pytest.mark.parametrize(
    ("files", "code"),
    [({}, "YAML_FILE_ERROR"), ({"buildspec.yml": "version: 0.2"}, "YAML_FILE_ERROR"), (None, "CLIENT_ERROR")],
)
def test_a_source_that_is_wrong_fails_the_download(builds: Builds, files: dict[str, str] | None, code: str) -> None:
    """No object, no buildspec, or one without phases: DOWNLOAD_SOURCE has failed."""
    location = builds.source(files) if files is not None else f"{builds.bed.site['bucket']}/builds/none.zip"
    builds.project(location)
    build = builds.ended(builds.start())
    failed = next(each for each in build["phases"] if each.get("phaseStatus") == "FAILED")
    assert (failed["phaseType"], failed["contexts"][0]["statusCode"]) == ("DOWNLOAD_SOURCE", code)


def test_a_build_ends_when_told_to_and_when_its_time_is_up(bed: Bed, builds: Builds) -> None:
    """STOPPED, and TIMED_OUT with BUILD_TIMED_OUT; what it ran is gone."""
    builds.project(builds.source({"buildspec.yml": spec(build=["sleep 300 & sleep 300"])}))
    build = builds.start()
    bed.until(lambda: builds.get(build)["currentPhase"] == "BUILD")
    bed.until(lambda: bed.leftovers()["processes"])
    builds.client.stop_build(id=build)
    told = builds.ended(build)
    assert (told["buildStatus"], phases(told)["BUILD"]) == ("STOPPED", "STOPPED")
    assert bed.leftovers()["processes"] == []
    build = builds.start(timeoutInMinutesOverride=5)
    bed.until(lambda: builds.get(build)["currentPhase"] == "BUILD")
    bed.until(lambda: bed.leftovers()["processes"])
    bed.elapse(5 * 60 - 30)
    assert builds.get(build)["buildStatus"] == "IN_PROGRESS"
    bed.elapse(31)
    told = builds.ended(build)
    assert (told["buildStatus"], phases(told)["BUILD"]) == ("TIMED_OUT", "TIMED_OUT")
    late = next(each for each in told["phases"] if each["phaseType"] == "BUILD")
    assert late["contexts"][0]["statusCode"] == "BUILD_TIMED_OUT"
    assert bed.leftovers()["processes"] == []


def test_projects_are_checked_and_changed(bed: Bed, builds: Builds) -> None:
    """A name is taken once; a role must let CodeBuild assume it; UpdateProject changes what it names."""
    builds.project("bucket/source.zip")
    with pytest.raises(builds.client.exceptions.ResourceAlreadyExistsException):
        builds.project("bucket/source.zip")
    with pytest.raises(ClientError, match="not authorized to perform: sts:AssumeRole"):
        builds.client.update_project(name="starburst-lab", serviceRole=bed.site["task_role"])
    builds.client.update_project(name="starburst-lab", timeoutInMinutes=20)
    got = builds.client.batch_get_projects(names=["starburst-lab", "none"])
    assert (got["projects"][0]["timeoutInMinutes"], got["projectsNotFound"]) == (20, ["none"])
    with pytest.raises(builds.client.exceptions.ResourceNotFoundException):
        builds.client.start_build(projectName="none")


@pytest.mark.usefixtures("engine")
def test_a_build_makes_an_image_and_pushes_it(bed: Bed, builds: Builds) -> None:
    """In privileged mode docker works, and `aws ecr get-login-password` is there; in another docker finds no engine."""
    ecr = bed.boto("ecr")
    ecr.create_repository(repositoryName="starburst-lab")
    host = urlsplit(ecr.get_authorization_token()["authorizationData"][0]["proxyEndpoint"]).netloc
    commands = spec(
        pre_build=[f"aws ecr get-login-password | docker login --username AWS --password-stdin {host}"],
        build=[f"docker build --tag {host}/starburst-lab:env-1 .", f"docker push {host}/starburst-lab:env-1"],
        post_build=[f"docker image rm {host}/starburst-lab:env-1"],
    )
    builds.project(
        builds.source({"buildspec.yml": commands, "Dockerfile": "FROM scratch\nCOPY buildspec.yml /\n"}),
        privilegedMode=True,
    )
    build = builds.ended(builds.start())
    assert build["buildStatus"] == "SUCCEEDED", "\n".join(builds.lines(build))
    pushed = ecr.describe_images(repositoryName="starburst-lab")["imageDetails"]
    assert [each["imageTags"] for each in pushed] == [["env-1"]]
    unprivileged = builds.ended(builds.start(privilegedModeOverride=False))
    assert unprivileged["buildStatus"] == "FAILED"
    assert any("Cannot connect to the Docker daemon" in line for line in builds.lines(unprivileged))
