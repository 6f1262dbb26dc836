"""How long until an image with a user's environment is in the registry, without an engine?"""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from pathlib import Path
from secrets import token_hex
from typing import Any

from benchmarks.scenario import Case, Column, Scenario, Target

PACKAGES = ("numpy", "pandas", "scikit-learn")
PLATFORMS = ("linux/amd64", "linux/arm64")


def cases(quick: bool) -> list[Case]:
    """For one platform and for both; with nothing kept, with common layers, and with all but a small package."""
    return [Case(how, count, 1 if quick else 3) for count in (1, 2) for how in ("cold", "warm", "changed")]


def measure(contender: str, size: int) -> dict[str, float]:
    """Build into a repository that nobody used, or that has it but for a package, then again."""
    from starburst_common.image.layer import LayerBuilder
    from starburst_common.image.registry import Registry
    from starburst_common.ports import Access
    from tests.testbed.engine import running_engine

    with running_engine() as engine, tempfile.TemporaryDirectory() as folder:
        builder = LayerBuilder(cache=Path(folder))
        text = locked()
        recipe = recipe_for(engine, PLATFORMS[:size], text)
        access = Access(url=f"http://{engine.registry}", repository=unused())
        if contender == "warm":
            builder.build(recipe_for(engine, PLATFORMS[:size], ""), access, tell)
            access = Access(url=f"http://{engine.registry}", repository=unused())
        elif contender == "changed":
            builder.build(recipe, access, tell)
            recipe = recipe_for(engine, PLATFORMS[:size], with_another_six(text))
        began = time.perf_counter()
        digest = builder.build(recipe, access, tell)
        built = time.perf_counter()
        assert builder.build(recipe, access, tell) == digest
        again = time.perf_counter()
        supervisor, slots, *packages = layers_of(Registry.of(access), access.repository, digest)[below(engine) :]
    return {
        "build_s": built - began,
        "again_s": again - built,
        "supervisor_mb": supervisor["size"] / 1e6,
        "slots_mb": slots["size"] / 1e6,
        "packages_mb": sum(layer["size"] for layer in packages) / 1e6,
        "layers": float(len(packages)),
    }


def with_another_six(text: str) -> str:
    """The same requirements but for one, of some kilobytes."""
    lines = re.sub(r"\\\n", " ", text).splitlines()
    return "".join(f"{line}\n" for line in lines if not line.startswith("six==")) + "six==1.16.0\n"


def recipe_for(engine: Any, platforms: tuple[str, ...], text: str) -> Any:
    """On the test bed's base, which is relabelled for the platform it is not there for; versions as locked here."""
    import json
    import sys

    from starburst_common.environment import Environment
    from starburst_common.image import contents, oci
    from starburst_common.image.recipe import Recipe
    from starburst_common.image.registry import Registry, parse_reference

    name = engine.base_image()
    engine.publish(name, name)
    url, repository, tag = parse_reference(f"{engine.registry}/{name}")
    registry = Registry(url)
    found = registry.manifest(repository, tag)
    assert found is not None
    config = json.loads(registry.blob(repository, found.content["config"]["digest"]))
    manifests = {}
    for platform in PLATFORMS:
        body = json.dumps({**config, "architecture": platform.partition("/")[2]}).encode()
        registry.put_blob(repository, oci.digest(body), body)
        manifests[platform] = oci.manifest_on_top(found.content, [], body)
        registry.put_manifest(repository, oci.digest(manifests[platform]), manifests[platform], oci.MANIFEST)
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return Recipe(
        environment=Environment.of(python, text),
        platforms=platforms,
        base=f"{engine.registry}/{repository}:both",
        base_digest=registry.put_manifest(repository, "both", oci.index(manifests), oci.INDEX),
        worker=contents.digest(),
    )


def locked() -> str:
    """The packages with all they need, from this project's lock file."""
    from starburst_common.image.wheels import uv_program

    how = ["--frozen", "--only-group", "examples", "--no-annotate", "--no-header"]
    return subprocess.run([uv_program(), "export", *how], check=True, capture_output=True, text=True).stdout


def layers_of(registry: Any, repository: str, digest: str) -> list[dict[str, Any]]:
    """Of the first platform, from the lowest."""
    found = registry.manifest(repository, digest)
    if "manifests" in found.content:
        found = registry.manifest(repository, found.content["manifests"][0]["digest"])
    layers: list[dict[str, Any]] = found.content["layers"]
    return layers


def below(engine: Any) -> int:
    """How many layers the base has."""
    from starburst_common.image.registry import Registry, parse_reference

    url, repository, tag = parse_reference(f"{engine.registry}/{engine.base_image()}")
    found = Registry(url).manifest(repository, tag)
    assert found is not None
    return len(found.content["layers"])


def unused() -> str:
    """A repository's name."""
    return f"benchmark/{token_hex(6)}"


def tell(line: str) -> None:
    """Nobody listens."""


SCENARIO = Scenario(
    name="image_build",
    title="From an environment to an image in the registry",
    about="An image with numpy, pandas and scikit-learn, made of wheels without an engine and pushed, with the base's "
    "layers, to a registry on this machine that has none of them. Cold: no layer is kept from an earlier build; warm: "
    "those with the worker are; changed: the same image was built and pushed before, but for a package of some "
    "kilobytes. uv has the wheels in its cache either way. Again: the same once more. Sizes are those of the "
    "compressed layers for x86-64. Before, all packages were one layer a platform, made anew by any change: of 37 s, "
    "20 went into compressing on one core, 8 into compiling 3,800 modules, and the rest into reading and writing "
    "10,000 files a platform. What is left cold is to compile (13 s of CPU) and to compress 670 MB (7).",
    size_heading="platforms",
    cases=cases,
    measure=measure,
    columns=(
        Column("build_s", "built, s", ".1f"),
        Column("again_s", "again, s", ".3f"),
        Column("supervisor_mb", "supervisor, MB", ".1f"),
        Column("slots_mb", "slots, MB", ".1f"),
        Column("packages_mb", "packages, MB", ".1f"),
        Column("layers", "in layers", ".0f"),
    ),
    targets=(
        Target("two platforms, cold: built, s", lambda r: r.spread("cold", 2, "build_s"), 20.0),
        Target("two platforms, a small package changed: built, s", lambda r: r.spread("changed", 2, "build_s"), 5.0),
    ),
    not_run="Downloads of wheels and of the base image, and an upload over a network, are not in these figures.",
)
