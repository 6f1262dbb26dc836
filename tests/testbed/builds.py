"""A project in; one build of it, which really runs its source's commands, out."""

from __future__ import annotations

import copy
import os
import shutil
import sys
import tempfile
import threading
import time
import uuid
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

from tests.testbed import cloud
from tests.testbed.buildspec import PHASES, BadBuildspec, Buildspec, Phase, read_buildspec
from tests.testbed.clock import CLOCK
from tests.testbed.conditions import ACCOUNT, PARTITION, REGION, Conditions
from tests.testbed.iam import Iam
from tests.testbed.needs import Need
from tests.testbed.processes import MARK
from tests.testbed.shell import Halted, Shell
from tests.testbed.starts import Lines

Json = dict[str, Any]
ARN = f"arn:{PARTITION}:codebuild:{REGION}:{ACCOUNT}"
_FLUSH_S = 0.2


class _Failed(Exception):
    """Status code and message of the phase that failed."""


class Build:
    """A build from StartBuild to COMPLETED, in a thread of its own."""

    def __init__(self, project: Json, number: int, conditions: Conditions, iam: Iam, endpoint: str) -> None:
        self.project = project
        self._iam = iam
        self.stopped = threading.Event()  #: someone wants it stopped
        self.ended = threading.Event()
        self._word = str(uuid.uuid4())
        self.id = f"{project['name']}:{self._word}"
        self._number = number
        self._conditions = conditions
        self._endpoint = endpoint
        self._lock = threading.Lock()
        self._status = "IN_PROGRESS"
        self._started_at, self._ended_at = cloud.now(), 0.0
        self._until = CLOCK.monotonic() + 60 * project["timeoutInMinutes"]
        self._phases: list[Json] = [self._row("SUBMITTED")]
        self._close(self._phases[0], "SUCCEEDED")
        self._phases.append(self._row("QUEUED"))
        logs = (project.get("logsConfig") or {}).get("cloudWatchLogs") or {"status": "ENABLED"}
        self._logs_on = logs["status"] == "ENABLED"
        self._group = logs.get("groupName") or f"/aws/codebuild/{project['name']}"
        prefix = logs.get("streamName")
        self._stream = f"{prefix}/{self._word}" if prefix else self._word
        self._lines = Lines(self._group, self._stream)

    def begin(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._live, name=self.id, daemon=True).start()

    def tell(self) -> Json:
        """As BatchGetBuilds has it."""
        with self._lock:
            logs: Json = {"cloudWatchLogs": {"status": "ENABLED" if self._logs_on else "DISABLED"}}
            if self._logs_on and len(self._phases) > 2:  # "the log stream is created during the PROVISIONING phase"
                logs |= {"groupName": self._group, "streamName": self._stream}
                logs["cloudWatchLogsArn"] = (
                    f"arn:{PARTITION}:logs:{REGION}:{ACCOUNT}:log-group:{self._group}:log-stream:{self._stream}"
                )
            told = {
                "id": self.id,
                "arn": f"{ARN}:build/{self.id}",
                "buildNumber": self._number,
                "startTime": self._started_at,
                "currentPhase": self._phases[-1]["phaseType"],
                "buildStatus": self._status,
                "buildComplete": self._status != "IN_PROGRESS",
                "projectName": self.project["name"],
                "phases": copy.deepcopy(self._phases),
                "source": self.project["source"],
                "environment": self.project["environment"],
                "serviceRole": self.project["serviceRole"],
                "timeoutInMinutes": self.project["timeoutInMinutes"],
                "queuedTimeoutInMinutes": self.project["queuedTimeoutInMinutes"],
                "logs": logs,
                "initiator": "bed",
            }
            return told | ({"endTime": self._ended_at} if self._ended_at else {})

    # --- its life -----------------------------------------------------------------------------------------------------

    def _live(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="bed-build-"))
        shell = None
        quiet = threading.Event()
        flusher = threading.Thread(target=self._flush, args=(quiet,), daemon=True)
        try:
            self._wait()
            self._enter("PROVISIONING")
            if self._logs_on:
                self._open_log()
            flusher.start()
            self._wait()
            self._enter("DOWNLOAD_SOURCE")
            spec = self._source(folder / "src")
            shell = Shell(folder / "src", self._environment(folder, spec), self._lines.add)
            self._work(shell, spec)
            self._enter("UPLOAD_ARTIFACTS")
            status = "SUCCEEDED" if all(each.get("phaseStatus") != "FAILED" for each in self._phases) else "FAILED"
        except _Failed as why:
            status = self._fail(why, "FAILED")
        except Halted:
            late = _Failed("BUILD_TIMED_OUT", "Build has timed out. ")
            status = self._fail(None, "STOPPED") if self.stopped.is_set() else self._fail(late, "TIMED_OUT")
        if shell:
            shell.close()
        shutil.rmtree(folder, ignore_errors=True)
        quiet.set()
        if flusher.ident:
            flusher.join()
        if status in ("SUCCEEDED", "FAILED"):
            self._enter("FINALIZING")
        self._enter("COMPLETED")
        with self._lock:
            self._phases[-1].pop("phaseStatus", None)
            self._lines.flush()
            self._ended_at = cloud.now()
            self._status = status
        self.ended.set()

    def _work(self, shell: Shell, spec: Buildspec) -> None:
        """Run the phases. Raises `_Failed` from install and pre_build; after build, post_build runs in any case."""
        failed = None
        for name in PHASES:
            self._enter(name.upper())
            shell.run(f"export CODEBUILD_BUILD_SUCCEEDING={int(failed is None)}", self._halted)
            try:
                self._run(shell, spec.phases.get(name, Phase()))
            except _Failed as why:
                failed = why
                if name in ("install", "pre_build"):
                    raise
                self._fail(why, "FAILED")

    def _run(self, shell: Shell, phase: Phase) -> None:
        try:
            self._run_all(shell, phase.commands)
        finally:
            if not self._halted():
                self._run_all(shell, phase.last)

    def _run_all(self, shell: Shell, commands: tuple[str, ...]) -> None:
        for command in commands:
            self._say(f"Running command {command}")
            if code := shell.run(command, self._halted):
                self._say(f"Command did not exit successfully {command} exit status {code}")
                raise _Failed(
                    "COMMAND_EXECUTION_ERROR", f"Error while executing command: {command}. Reason: exit status {code}"
                )

    def _source(self, folder: Path) -> Buildspec:
        """Unpack the source; its buildspec. Raises `_Failed`."""
        folder.mkdir()
        source = self.project["source"]
        if source["type"] == "S3":
            bucket, _, key = source["location"].removeprefix(f"arn:{PARTITION}:s3:::").partition("/")
            if no := self._may_not("s3:GetObject", f"arn:{PARTITION}:s3:::{bucket}/{key}"):
                raise _Failed("CLIENT_ERROR", f"AccessDenied: {no} status code: 403, request id: BED0000000000000")
            body = cloud.s3_object(bucket, key)
            if body is None:
                raise _Failed(
                    "CLIENT_ERROR",
                    "NoSuchKey: The specified key does not exist. status code: 404, request id: BED0000000000000 for "
                    "primary source and source version ",
                )
            try:
                _unpack(body, folder)
            except zipfile.BadZipFile as error:
                raise _Failed("CLIENT_ERROR", f"{error} for primary source and source version ") from None
        declared = source.get("buildspec") or "buildspec.yml"
        if "\n" in declared or declared.lstrip().startswith("{"):
            text = declared
        else:
            try:
                text = (folder / declared).read_text()
            except OSError:
                raise _Failed("YAML_FILE_ERROR", f"YAML file does not exist: {declared}") from None
        try:
            return read_buildspec(text)
        except BadBuildspec as why:
            raise _Failed(*why.args) from None

    def _open_log(self) -> None:
        """Raises `_Failed` where its role may not."""
        arn = f"arn:{PARTITION}:logs:{REGION}:{ACCOUNT}:log-group:{self._group}"
        stream = f"{arn}:log-stream:{self._stream}"
        for action, on in (("CreateLogGroup", arn), ("CreateLogStream", stream), ("PutLogEvents", stream)):
            if no := self._may_not(f"logs:{action}", on):
                raise _Failed("ACCESS_DENIED", f"Service role {self.project['serviceRole']} does not allow it: {no}")
        cloud.create_log_stream(self._group, self._stream, create_group=True)

    def _may_not(self, action: str, resource: str) -> str:
        return self._iam.may(self.project["serviceRole"], f"AWSCodeBuild-{self._word}", Need(action, resource))

    def _environment(self, folder: Path, spec: Buildspec) -> dict[str, str]:
        programs, home = folder / "bin", folder / "home"
        programs.mkdir()
        home.mkdir()
        aws = programs / "aws"
        aws.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).with_name("awscli.py")} "$@"\n')
        aws.chmod(0o755)
        docker = None
        if self.project["environment"].get("privilegedMode"):
            from tests.testbed.engine import engine_now

            docker = engine_now()
        given = {each["name"]: self._value(each) for each in self.project["environment"]["environmentVariables"]}
        return {
            "PATH": f"{programs}:{os.environ.get('PATH', '/usr/local/bin:/usr/bin:/bin')}",
            "HOME": str(home),
            "LANG": os.environ.get("LANG", "C.UTF-8"),
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self._endpoint,
            "AWS_ACCESS_KEY_ID": self._iam.lend(self.project["serviceRole"], f"AWSCodeBuild-{self._word}"),
            "AWS_SECRET_ACCESS_KEY": uuid.uuid4().hex,
            "AWS_SESSION_TOKEN": uuid.uuid4().hex,
            "AWS_EC2_METADATA_DISABLED": "true",
            "CODEBUILD_BUILD_ID": self.id,
            "CODEBUILD_BUILD_ARN": f"{ARN}:build/{self.id}",
            "CODEBUILD_BUILD_NUMBER": str(self._number),
            "CODEBUILD_BUILD_IMAGE": self.project["environment"]["image"],
            "CODEBUILD_CI": "true",
            "CODEBUILD_INITIATOR": "bed",
            "CODEBUILD_LOG_PATH": self._stream,
            "CODEBUILD_SRC_DIR": str(folder / "src"),
            "CODEBUILD_START_TIME": str(int(self._started_at * 1000)),
            # without privileged mode no engine listens; one that this machine has must not be found either
            "DOCKER_HOST": docker or f"unix://{folder}/docker.sock",
            MARK: f"{os.getpid()}/{self.id}",
            **spec.variables,
            **given,
        }

    def _value(self, variable: Json) -> str:
        if variable.get("type", "PLAINTEXT") == "PLAINTEXT":
            return str(variable["value"])
        try:
            return cloud.secret(variable["value"])
        except KeyError:
            raise _Failed("CLIENT_ERROR", f"{variable['value']} cannot be read for {variable['name']}") from None

    # --- its state ----------------------------------------------------------------------------------------------------

    def _enter(self, name: str) -> None:
        with self._lock:
            if "endTime" not in self._phases[-1]:
                self._close(self._phases[-1], "SUCCEEDED")
                self._tell_end(self._phases[-1])
            self._phases.append(self._row(name))
        if name in ("INSTALL", "PRE_BUILD", "BUILD", "POST_BUILD"):
            self._say(f"Entering phase {name}")

    def _fail(self, why: _Failed | None, status: str) -> str:
        with self._lock:
            if why:
                code, message = why.args
                self._phases[-1]["contexts"] = [{"statusCode": code, "message": message}]
            self._close(self._phases[-1], status)
            self._tell_end(self._phases[-1])
        return status

    def _tell_end(self, phase: Json) -> None:
        if phase["phaseType"] in ("SUBMITTED", "QUEUED", "PROVISIONING"):
            return
        context = (phase.get("contexts") or [{"statusCode": "", "message": ""}])[0]
        self._say(f"Phase complete: {phase['phaseType']} State: {phase['phaseStatus']}")
        self._say(f"Phase context status code: {context['statusCode']} Message: {context['message']}")

    def _row(self, name: str) -> Json:
        return {"phaseType": name, "startTime": cloud.now()}

    def _close(self, phase: Json, status: str) -> None:
        phase |= {"phaseStatus": status, "endTime": cloud.now()}
        phase["durationInSeconds"] = int(phase["endTime"] - phase["startTime"])

    def _halted(self) -> bool:
        return self.stopped.is_set() or CLOCK.monotonic() > self._until

    def _wait(self) -> None:
        if self.stopped.wait(self._conditions.build_start_s):
            raise Halted

    def _say(self, text: str) -> None:
        self._lines.add(f"[Container] {time.strftime('%Y/%m/%d %H:%M:%S', time.gmtime(CLOCK.time()))} {text}")

    def _flush(self, quiet: threading.Event) -> None:
        while not quiet.wait(_FLUSH_S):
            self._lines.flush()
        self._lines.flush()


def _unpack(body: bytes, folder: Path) -> None:
    with zipfile.ZipFile(BytesIO(body)) as packed:
        for each in packed.infolist():
            where = Path(packed.extract(each, folder))
            if (mode := each.external_attr >> 16 & 0o777) and where.is_file():
                where.chmod(mode)
