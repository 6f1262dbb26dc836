"""`starburst image build` makes what this folder's code needs; `ls`, `rm` and `gc` look after what there is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from starburst_common.cli.words import Json

if TYPE_CHECKING:
    from starburst_common.ports import Repository, StoredImage


def build(
    builder: Annotated[
        str | None, typer.Option("--builder", metavar="NAME", help="layer, docker or codebuild; else the settings say.")
    ] = None,
    json: Json = False,
) -> None:
    """Build the image for this folder's environment, unless it is there; print its name."""
    from pathlib import Path

    from starburst_common.backends import open_site_images
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.show import say
    from starburst_common.config import BUILDERS
    from starburst_common.errors import BadInput
    from starburst_common.phrases import visible
    from starburst_common.steps import steps_shown

    if builder is not None and builder not in BUILDERS:
        raise BadInput(f"--builder {builder}: give one of {', '.join(BUILDERS)}")
    _, images = open_site_images()
    here = Path.cwd()
    with steps_shown(True):
        recipe = images.recipe(here)
        built = not images.there(recipe)
        reference = images.built(recipe, builder=builder or images.settings.in_project(here).builder)
    if json:
        print_json({"image": reference, "built": built})
        return
    if not built:
        say("it is there already")
    print(visible(reference))


def ls(json: Json = False) -> None:
    """List the images that are kept, the last used first, with what each costs.

    The size of an image for several platforms is that of the largest, as ECR tells it.
    """
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.show import add_row, ago, columns, print_table, say
    from starburst_common.image.keep import last_used

    repository, in_use = _opened()
    images = sorted(repository.images(), key=last_used, reverse=True)
    if json:
        print_json([_fields(image, in_use) for image in images])
        return
    if not images:
        say("no images yet: the first run makes one, and so does `starburst image build`")
        return
    right = ("size", "USD a month")
    table = columns("image", "size", "USD a month", "pushed", "last pull", "in use", right=right, flexible="in use")
    now = time.time()
    for image in images:
        pulled = "never" if image.pulled_at is None else ago(image.pulled_at, now)
        used = "yes" if image.tag in in_use else ""
        add_row(table, image.tag, _size(image.size_bytes), _usd(image), ago(image.pushed_at, now), pulled, used)
    print_table(table)
    say(_total(images))


def rm(
    tags: Annotated[list[str], typer.Argument(metavar="TAG…", help="An image's tag, or the start of one.")],
    force: Annotated[
        bool, typer.Option("--force", help="Also one that a fleet uses: it can start no more workers.")
    ] = False,
    json: Json = False,
) -> None:
    """Remove images, and print their tags. Who needs one again builds it again."""
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.show import say
    from starburst_common.errors import BadInput
    from starburst_common.phrases import visible

    repository, in_use = _opened()
    known = {image.tag: image for image in repository.images()}
    chosen = [known[tag] for tag in dict.fromkeys(find_tag(word, list(known)) for word in tags)]
    if (used := [image.tag for image in chosen if image.tag in in_use]) and not force:
        raise BadInput(
            f"{', '.join(used)} is in use: its workers run on, but no more could start; wait for its runs to end, or "
            "say --force"
        )
    repository.delete([image.tag for image in chosen])
    if json:
        print_json([image.tag for image in chosen])
        return
    print("\n".join(visible(image.tag) for image in chosen))
    say(f"removed {_total(chosen)}")


def gc(
    days: Annotated[
        float | None,
        typer.Option("--days", min=0, help="Remove what nobody has pulled for longer; else as the settings say."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Really remove; without it, only say what would go.")] = False,
    json: Json = False,
) -> None:
    """Remove images that no fleet uses and that nobody has pulled for a while; first only say which."""
    from starburst_common.cli.lines import print_json
    from starburst_common.cli.show import add_row, ago, columns, print_table, say
    from starburst_common.config import settings
    from starburst_common.image.keep import collect, last_used

    repository, in_use = _opened()
    keep_days = settings().image.keep_days if days is None else days
    now = time.time()
    found = collect(repository, in_use=in_use, keep_days=keep_days, now=now, really=yes)
    if json:
        print_json({"removed": yes, "images": [_fields(image, in_use) for image in found]})
        return
    if not found:
        say(f"nothing to remove: every image is in use or was pulled within {keep_days:g} days")
        return
    table = columns("image", "size", "USD a month", "last used", right=("size", "USD a month"), flexible="last used")
    for image in found:
        add_row(table, image.tag, _size(image.size_bytes), _usd(image), ago(last_used(image), now))
    print_table(table)
    say(f"removed {_total(found)}" if yes else f"would remove {_total(found)}: say --yes to do it")


def find_tag(word: str, tags: Sequence[str]) -> str:
    """The tag that somebody means: all of it, or the start of it or of a fingerprint, where only one starts so.

    Raises `NotFound`, or `BadInput` where several start so.

    >>> find_tag("0a", ["env-0a1b", "env-0b00"])
    'env-0a1b'
    """
    from starburst_common.errors import BadInput, NotFound
    from starburst_common.image.keep import PREFIX

    if word in tags:
        return word
    whole = PREFIX + word  # a fingerprint has more digits than its tag
    found = [tag for tag in tags if word and (tag.startswith((word, whole)) or whole.startswith(tag))]
    if not found:
        raise NotFound(f"no image {word!r}: `starburst image ls` lists those there are")
    if len(found) > 1:
        some = f"{', '.join(found[:3])}{' …' * (len(found) > 3)}"
        raise BadInput(f"{word!r} is the start of {len(found)} images: {some}")
    return found[0]


def _opened() -> tuple[Repository, frozenset[str]]:
    """The site's repository, and the tags that its live fleets use. Raises `BadInput` where no site is configured."""
    from starburst_common.backends import open_images

    return open_images()


def _fields(image: StoredImage, in_use: frozenset[str]) -> dict[str, Any]:
    from starburst_common.cli.show import iso
    from starburst_common.money.book import ecr_usd_per_month

    return {
        "tag": image.tag,
        "digest": image.digest,
        "size_bytes": image.size_bytes,
        "usd_per_month": float(round(ecr_usd_per_month(image.size_bytes), 6)),
        "pushed_at": iso(image.pushed_at),
        "pulled_at": iso(image.pulled_at),
        "in_use": image.tag in in_use,
    }


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.0f} MB" if size_bytes >= 1e6 else f"{size_bytes / 1e3:,.0f} kB"


def _usd(image: StoredImage) -> str:
    from starburst_common.dollars import usd_text
    from starburst_common.money.book import ecr_usd_per_month

    return usd_text(ecr_usd_per_month(image.size_bytes))


def _total(images: Sequence[StoredImage]) -> str:
    from starburst_common.dollars import usd_text
    from starburst_common.money.book import ecr_usd_per_month, item_price

    total, price = sum(image.size_bytes for image in images), item_price("ecr-storage", "*")
    plural, by = "s" * (len(images) != 1), "" if price is None else f" ({price.told})"
    return f"{len(images)} image{plural}, {_size(total)}, about {usd_text(ecr_usd_per_month(total))} a month{by}"
