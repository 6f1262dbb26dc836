"""From a project's folder to containers on the test bed: found, built once, looked up, checked, kept while in use."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from starburst_common import Cluster, starburst_map
from starburst_common.environment import Environment
from starburst_common.errors import BadInput, CannotBuild, Unavailable
from starburst_common.image import oci
from starburst_common.image.build import PYTHON
from starburst_common.image.layer import LayerBuilder
from starburst_common.image.registry import Registry
from starburst_common.names import BUILDS
from starburst_common.ports import Access
from tests.places import environment
from tests.testbed.bed import Bed as Aws
from tests.testbed.engine import Engine

SIX = "six==1.17.0"


@pytest.fixture
def project(engine: Engine, container_aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with requirements, where a site without an image of its own is configured."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "requirements.txt").write_text(f"{SIX}\n")
    (folder / "pyproject.toml").write_text(f'[tool.starburst.image]\nbase = "{engine.recipe().base}"\n')
    config = tmp_path / "config.toml"
    config.write_text(container_aws.settings(image=False))
    monkeypatch.chdir(folder)
    nowhere = {"DOCKER_HOST": "unix:///nowhere"}  # no engine is needed
    with environment({**container_aws.env, **nowhere, "STARBURST_CONFIG": str(config)}):
        yield folder


def starburst(*words: str) -> subprocess.CompletedProcess[str]:
    """The command."""
    return subprocess.run(
        [sys.executable, "-m", "starburst_common.cli", *words], capture_output=True, text=True, timeout=240, check=False
    )


def tags(aws: Aws) -> list[str]:
    """Of the site's images."""
    try:
        details = aws.boto("ecr").describe_images(repositoryName=aws.repository)["imageDetails"]
    except aws.boto("ecr").exceptions.RepositoryNotFoundException:
        return []
    return sorted(tag for detail in details for tag in detail.get("imageTags", []))


def test_a_function_finds_its_projects_packages(project: Path, container_aws: Aws, caplog: Any) -> None:
    """No Dockerfile, no engine, no command: the first call builds the image, the next finds it."""

    def version(_: int) -> str:
        import six

        return str(six.__version__)

    with caplog.at_level(logging.INFO, "starburst.image"):
        assert starburst_map(version, range(3), workers=1, progress=False) == ["1.17.0"] * 3
        assert "building the image env-" in caplog.text
        caplog.clear()
        with Cluster(workers=1, progress=False):
            pass
        assert caplog.text == ""
    assert len(tags(container_aws)) == 1


def test_a_changed_dependency_builds_and_a_changed_comment_does_not(project: Path, container_aws: Aws) -> None:
    """`env show` says which image it will be and whether it is there; `image build` prints its name."""
    shown = json.loads(starburst("env", "show", "--json").stdout)
    assert shown["state"].startswith("not built yet") and shown["requirements"] == [SIX]
    first = starburst("image", "build")
    assert first.returncode == 0, first.stderr
    assert first.stdout.strip().endswith(f"{container_aws.repository}:{shown['image']}")
    assert re.search(r"uploading .*packages", first.stderr)

    (project / "requirements.txt").write_text(f"# why\n{SIX}  # because\n")
    again = starburst("image", "build", "--json")
    assert json.loads(again.stdout) == {"image": first.stdout.strip(), "built": False}
    assert json.loads(starburst("env", "show", "--json").stdout)["state"] == "ready"

    (project / "requirements.txt").write_text("six==1.16.0\n")
    other = starburst("image", "build")
    assert other.returncode == 0 and other.stdout != first.stdout
    assert len(tags(container_aws)) == 2
    listed = starburst("image", "ls")
    assert listed.stdout.count("env-") == 2 and "2 images" in listed.stderr


def test_two_processes_build_once(project: Path, container_aws: Aws) -> None:
    """Both want the same image at the same time: one builds it, the other waits, and both have it."""
    command = [sys.executable, "-m", "starburst_common.cli", "image", "build"]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # no shell in between
        for _ in range(2)
    ]
    said = [process.communicate(timeout=240) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0][0] == said[1][0]
    assert container_aws.requests()["registry", "PutManifest"] == 1
    assert sum(" with layer" in err for _, err in said) == 1
    assert not [key for key in container_aws.leftovers()["objects"] if key.startswith("builds/")]


def test_a_killed_build_leaves_no_tag_and_the_next_succeeds(project: Path, container_aws: Aws) -> None:
    """SIGKILL while the image is pushed: nothing could be run by mistake; who comes next builds when it has the turn.

    How long that is the killed one's has a test of its own, in `test_image_build`; here its mark is taken away.
    """
    container_aws.fault(service="registry", operation="PatchBlob", delay_s=20.0, probability=1.0)
    command = [sys.executable, "-m", "starburst_common.cli", "image", "build"]
    build = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        container_aws.until(lambda: container_aws.requests().get(("registry", "PatchBlob")), within_s=120)
    finally:
        build.send_signal(signal.SIGKILL)
        build.wait()
    container_aws.clear_faults()
    assert tags(container_aws) == []
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as done:
        assert done.stderr is not None
        assert any("somebody else is building the image" in line for line in done.stderr)
        s3, bucket = container_aws.boto("s3"), container_aws.site["bucket"]
        for each in s3.list_objects_v2(Bucket=bucket, Prefix=BUILDS)["Contents"]:
            s3.delete_object(Bucket=bucket, Key=each["Key"])
        said = done.stderr.read()
    assert done.returncode == 0 and " with layer" in said, said
    assert len(tags(container_aws)) == 1


@pytest.mark.parametrize(
    ("fault", "kind", "why"),
    [
        ({"status": 500, "probability": 1.0}, Unavailable, "500"),
        (
            {"operation": "PatchBlob", "reset": True, "halfway": True, "probability": 1.0},
            Unavailable,
            "cannot be reached after 4 tries",
        ),
        ({"status": 403, "probability": 1.0}, CannotBuild, "403"),
    ],
    ids=["500", "cut", "denied"],
)
def test_a_registry_that_fails_is_one_clear_error_and_the_next_try_succeeds(
    project: Path, container_aws: Aws, fault: dict[str, Any], kind: type[Exception], why: str
) -> None:
    """Nothing was launched, and no tag is left; when it works again, so does the build."""
    container_aws.fault(service="registry", **fault)
    with pytest.raises(kind, match=why):
        starburst_map(abs, range(3), workers=1, progress=False)
    container_aws.clear_faults()
    assert tags(container_aws) == [] and container_aws.tasks() == []
    assert starburst_map(abs, range(3), workers=1, progress=False) == [0, 1, 2]


def test_an_image_in_use_is_neither_removed_nor_collected(project: Path, container_aws: Aws) -> None:
    """While a fleet is open its image stays, however old; afterwards it goes, after a dry run."""
    with Cluster(workers=1, progress=False) as cluster:
        assert cluster.map(abs, [-1]) == [1]
        (tag,) = tags(container_aws)
        refused = starburst("image", "rm", tag[:10])
        assert refused.returncode == 2 and "in use" in refused.stderr
        assert "nothing to remove" in starburst("image", "gc", "--days", "0", "--yes").stderr
    dry = starburst("image", "gc", "--days", "0")
    assert tag in dry.stdout and "say --yes" in dry.stderr
    assert tags(container_aws) == [tag]
    assert "removed 1 image" in starburst("image", "gc", "--days", "0", "--yes").stderr
    assert tags(container_aws) == []


def test_an_image_of_ones_own_is_checked_before_anything_is_launched(
    project: Path, engine: Engine, container_aws: Aws
) -> None:
    """It must be there, hold the worker, and be for the site's platform and this Python."""
    target = Access(url=f"http://{engine.registry}", repository="own")
    registry = Registry.of(target)
    recipe = engine.recipe(Environment.of(PYTHON, ""))
    good = f"{engine.registry}/own:{recipe.tag}"
    LayerBuilder().build(recipe, target, lambda _: None)
    assert starburst_map(abs, [-1], workers=1, image=good, progress=False) == [1]

    found = registry.manifest("own", recipe.tag)
    assert found is not None
    config = json.loads(registry.blob("own", found.content["config"]["digest"]))
    for name, change, why in (
        ("arm", {"architecture": "arm64"}, "is for linux/arm64, the site's workers are linux/amd64"),
        ("bare", {"config": {}}, "does not hold the worker"),
        ("old", {"config": {"Labels": {"starburst.python": "3.9"}}}, f"has Python 3.9, here runs {PYTHON}"),
    ):
        body = json.dumps({**config, **change}).encode()
        registry.put_blob("own", oci.digest(body), body)
        described = {**found.content["config"], "digest": oci.digest(body), "size": len(body)}
        manifest = json.dumps({**found.content, "config": described}).encode()
        registry.put_manifest("own", name, manifest, found.media_type)
        with pytest.raises(BadInput, match=why):
            starburst_map(abs, [-1], workers=1, image=f"{engine.registry}/own:{name}", progress=False)
    with pytest.raises(BadInput, match="is not in its registry"):
        starburst_map(abs, [-1], workers=1, image=f"{engine.registry}/own:none", progress=False)
    assert len(container_aws.tasks()) == 1


def test_the_site_and_the_builder_can_be_named(project: Path, container_aws: Aws, tmp_path: Path) -> None:
    """A builder that cannot is named with its reason; a site with an image of its own builds none."""
    refused = starburst("image", "build", "--builder", "codebuild")
    assert refused.returncode == 5 and "codebuild: set `build_role`" in refused.stderr
    unknown = starburst("image", "build", "--builder", "podman")
    assert unknown.returncode == 2 and "layer, docker, codebuild" in unknown.stderr
    own = tmp_path / "own.toml"
    own.write_text(container_aws.settings())
    os.environ["STARBURST_CONFIG"] = str(own)
    shown = json.loads(starburst("env", "show", "--json").stdout)
    assert shown["image"].endswith("the site's own")
