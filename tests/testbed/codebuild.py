"""CodeBuild's calls in; projects, and builds that really run, out."""

from __future__ import annotations

import copy
import math
import re
import threading
from collections.abc import Callable
from typing import Any

from tests.testbed import cloud
from tests.testbed.builds import ARN, Build
from tests.testbed.clock import CLOCK
from tests.testbed.conditions import Conditions
from tests.testbed.iam import Iam, assumable
from tests.testbed.needs import CODEBUILD
from tests.testbed.refusals import Refused

Json = dict[str, Any]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9\-_]{1,149}")
_MINUTES = (5, 2160)
_TOKEN_S = 300.0  #: how long one is known. Source: AWS CodeBuild API reference, StartBuild, read 2026-11-30
#: what StartBuild overrides of a project: parameter, and where in the project
_OVERRIDES = {
    "sourceTypeOverride": ("source", "type"),
    "sourceLocationOverride": ("source", "location"),
    "buildspecOverride": ("source", "buildspec"),
    "environmentTypeOverride": ("environment", "type"),
    "imageOverride": ("environment", "image"),
    "computeTypeOverride": ("environment", "computeType"),
    "privilegedModeOverride": ("environment", "privilegedMode"),
}
_TOP_OVERRIDES = {
    "timeoutInMinutesOverride": "timeoutInMinutes",
    "serviceRoleOverride": "serviceRole",
    "logsConfigOverride": "logsConfig",
}


class CodeBuild:
    """One method per call."""

    operations = frozenset(
        [
            *("CreateProject", "UpdateProject", "BatchGetProjects", "DeleteProject", "ListProjects"),
            *("StartBuild", "BatchGetBuilds", "StopBuild", "ListBuilds", "ListBuildsForProject"),
        ]
    )

    def __init__(self, conditions: Conditions, iam: Iam, endpoint: str) -> None:
        self._conditions = conditions
        self._iam = iam
        self._endpoint = endpoint
        self._lock = threading.Lock()
        self._projects: dict[str, Json] = {}
        self._builds: dict[str, Build] = {}
        self._asked: dict[str, tuple[float, Json, Build]] = {}  # by idempotency token: when, what, and what was made
        self._calls: dict[str, Callable[[Json], Json]] = {
            "CreateProject": self._create,
            "UpdateProject": self._update,
            "BatchGetProjects": self._get_projects,
            "DeleteProject": self._delete,
            "ListProjects": lambda _: {"projects": sorted(self._projects)},
            "StartBuild": self._start,
            "BatchGetBuilds": self._get_builds,
            "StopBuild": self._stop,
            "ListBuilds": lambda _: {"ids": self._ids()},
            "ListBuildsForProject": lambda asked: {"ids": self._ids(asked["projectName"])},
        }

    def call(self, operation: str, asked: Json) -> Json:
        """Answer one call. Raises `Refused`."""
        with self._lock:
            return self._calls[operation](asked)

    def reset(self) -> None:
        """Forget projects; stop and forget builds."""
        with self._lock:
            builds = list(self._builds.values())
            self._projects, self._builds, self._asked = {}, {}, {}
        for build in builds:
            build.stopped.set()
        for build in builds:
            build.ended.wait(10)

    # --- projects -----------------------------------------------------------------------------------------------------

    def _create(self, asked: Json) -> Json:
        name = asked["name"]
        if not _NAME.fullmatch(name):
            raise _bad(f"Project name {name} must match {_NAME.pattern}")
        if name in self._projects:
            raise Refused("ResourceAlreadyExistsException", f"Project already exists: {ARN}:project/{name}")
        project = {"timeoutInMinutes": 60, "queuedTimeoutInMinutes": 480, "cache": {"type": "NO_CACHE"}} | asked
        project |= {"arn": f"{ARN}:project/{name}", "created": cloud.now(), "lastModified": cloud.now()}
        _check(project)
        self._projects[name] = project
        return {"project": project}

    def _update(self, asked: Json) -> Json:
        project = self._project(asked["name"]) | asked | {"lastModified": cloud.now()}
        _check(project)
        self._projects[asked["name"]] = project
        return {"project": project}

    def _get_projects(self, asked: Json) -> Json:
        names = {name: name.rpartition("/")[2] for name in asked["names"]}
        return {
            "projects": [self._projects[each] for each in names.values() if each in self._projects],
            "projectsNotFound": [name for name, each in names.items() if each not in self._projects],
        }

    def _delete(self, asked: Json) -> Json:
        self._projects.pop(asked["name"].rpartition("/")[2], None)  # one that is not there is no error
        return {}

    def _project(self, name: str) -> Json:
        found = self._projects.get(name.rpartition("/")[2])
        if found is None:
            raise Refused("ResourceNotFoundException", f"Project cannot be found: {ARN}:project/{name}")
        return found

    # --- builds -------------------------------------------------------------------------------------------------------

    def _start(self, asked: Json) -> Json:
        token = asked.get("idempotencyToken")
        since, before, build = self._asked.get(token or "", (-math.inf, {}, None))
        if build is not None and CLOCK.monotonic() - since < _TOKEN_S:
            if before != asked:
                raise _bad("The idempotency token was used before with other parameters")
            return {"build": build.tell()}
        project = copy.deepcopy(self._project(asked["projectName"]))
        for name, (part, key) in _OVERRIDES.items():
            if name in asked:
                project[part][key] = asked[name]
        for name, key in _TOP_OVERRIDES.items():
            if name in asked:
                project[key] = asked[name]
        variables = project["environment"].get("environmentVariables") or []
        overriding = asked.get("environmentVariablesOverride") or []
        replaced = {each["name"] for each in overriding}
        kept = [each for each in variables if each["name"] not in replaced]
        project["environment"]["environmentVariables"] = kept + overriding
        _check(project)
        number = 1 + len(self._ids(project["name"]))
        build = Build(project, number, self._conditions, self._iam, self._endpoint)
        self._builds[build.id] = build
        if token:
            self._asked[token] = (CLOCK.monotonic(), asked, build)
        build.begin()
        return {"build": build.tell()}

    def _get_builds(self, asked: Json) -> Json:
        ids = [each.rpartition("build/")[2] for each in asked["ids"]]
        return {
            "builds": [self._builds[each].tell() for each in ids if each in self._builds],
            "buildsNotFound": [each for each in ids if each not in self._builds],
        }

    def _stop(self, asked: Json) -> Json:
        build = self._builds.get(asked["id"].rpartition("build/")[2])
        if build is None:
            raise Refused("ResourceNotFoundException", f"Build {asked['id']} does not exist")
        build.stopped.set()
        return {"build": build.tell()}

    def _ids(self, project: str = "") -> list[str]:
        own = [build for build in self._builds.values() if project in ("", build.project["name"])]
        return [build.id for build in reversed(own)]  # the newest first


def _check(project: Json) -> None:
    """Raises `Refused` for a project that CodeBuild would not take."""
    low, high = _MINUTES
    if not low <= project["timeoutInMinutes"] <= high:
        raise _bad(f"Invalid timeout: must be between {low} and {high} minutes, found {project['timeoutInMinutes']}")
    source = project["source"]
    if source["type"] not in ("S3", "NO_SOURCE"):
        raise _bad(f"The test bed knows sources of type S3 and NO_SOURCE, not {source['type']}")
    if source["type"] == "S3" and "/" not in source.get("location", ""):
        raise _bad("Invalid project source: location must be a valid S3 source")
    if source["type"] == "NO_SOURCE" and not source.get("buildspec"):
        raise _bad("Invalid project source: buildspec must be given inline with the source type NO_SOURCE")
    if not project["environment"]["type"].endswith("_CONTAINER"):
        raise _bad(f"Invalid environment type: {project['environment']['type']}")
    if not assumable(project["serviceRole"], CODEBUILD):
        raise _bad(f"CodeBuild is not authorized to perform: sts:AssumeRole on {project['serviceRole']}")


def _bad(why: str) -> Refused:
    return Refused("InvalidInputException", why)
