"""How fast do packs go to S3 and come back, where S3 itself takes no time?"""

from __future__ import annotations

import io
import os
import time
import urllib.request
from ast import literal_eval
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from benchmarks.scenario import Case, Column, Scenario, Target

PACK_BYTES = 16 << 20
PART_BYTES = 1 << 20
AT_ONCE = 4


def cases(quick: bool) -> list[Case]:
    """208 MiB by our store, by obstore alone, and by boto3's own upload and download."""
    return [Case(name, 208, 1 if quick else 5) for name in ("starburst", "obstore", "boto3")]


def measure(contender: str, size: int) -> dict[str, float]:
    """Packs of 16 MiB there, four at once, and back by their ranges; after one of each."""
    from benchmarks.sink import running_sink

    with running_sink() as url:
        os.environ.update(
            AWS_ENDPOINT_URL=url, AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b", AWS_REGION="us-east-1"
        )
        packs = [os.urandom(PACK_BYTES) for _ in range((size << 20) // PACK_BYTES)]
        up, down = {"starburst": by_starburst, "obstore": by_obstore, "boto3": by_boto3}[contender](url, packs)
        up(0), down(0)
        before, began, cpu = counts(url), time.perf_counter(), time.process_time()
        at_once(up, len(packs))
        stored = time.perf_counter()
        at_once(down, len(packs))
        ended = time.perf_counter()
        cpu_s, after = time.process_time() - cpu, counts(url)
    return {
        "up_mib_s": size / (stored - began),
        "down_mib_s": size / (ended - stored),
        "both_mib_s": 2 * size / (ended - began),
        "cpu_s": cpu_s,
        "requests": float(after - before - 1),
    }


Transfer = Callable[[int], object]


def by_starburst(url: str, packs: list[bytes]) -> tuple[Transfer, Transfer]:
    """Of parts that are never joined, as a feed has them; each on the condition that the key is free."""
    from starburst_common.aws.clients import Clients
    from starburst_common.aws.store import S3Objects

    store = S3Objects("bucket", Clients("us-east-1"))

    def up(number: int) -> None:
        view = memoryview(packs[number])
        store.create(f"pack-{number}", [view[at : at + PART_BYTES] for at in range(0, PACK_BYTES, PART_BYTES)])

    return up, lambda number: store.get_range(f"pack-{number}", 0, PACK_BYTES)


def by_obstore(url: str, packs: list[bytes]) -> tuple[Transfer, Transfer]:
    """In one piece each."""
    import obstore
    from obstore.store import S3Store

    store = S3Store("bucket", endpoint=url, region="us-east-1", client_options={"allow_http": True})
    return (
        lambda number: obstore.put(store, f"pack-{number}", packs[number], mode="create", use_multipart=False),
        lambda number: obstore.get_range(store, f"pack-{number}", start=0, length=PACK_BYTES),
    )


def by_boto3(url: str, packs: list[bytes]) -> tuple[Transfer, Transfer]:
    """As it uploads and downloads by itself: in parts of 8 MiB."""
    import boto3
    from boto3.s3.transfer import TransferConfig

    s3, whole = boto3.client("s3"), TransferConfig(multipart_threshold=PACK_BYTES + 1)
    return (
        lambda number: s3.upload_fileobj(io.BytesIO(packs[number]), "bucket", f"pack-{number}", Config=whole),
        lambda number: s3.download_fileobj("bucket", f"pack-{number}", io.BytesIO()),
    )


def at_once(transfer: Transfer, packs: int) -> None:
    """All of them, some at a time."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(transfer, range(packs)))


def counts(url: str) -> int:
    """How many requests the sink has had."""
    with urllib.request.urlopen(f"{url}/counts") as answer:
        return sum(literal_eval(answer.read().decode()).values())


SCENARIO = Scenario(
    name="aws_store",
    title="Packs to S3 and back, beside obstore alone",
    about=f"Packs of {PACK_BYTES >> 20} MiB, {AT_ONCE} at once, to a bare S3 on loopback that keeps them in memory and "
    "does nothing else, and back: what our store takes of a machine, and what S3, or what stands in for it, does not. "
    "obstore sends bytes that lie in one piece; ours are parts that are read as they are sent, so a pack is never "
    "copied whole. CPU is the client's. Before, boto3's client also made a checksum of each body, a third of what an "
    "upload took; what is left over obstore is the copy of 256 KiB at a time and, without TLS only, the digest that "
    "signs a body. The limit is the kernel's: each byte is copied into its socket and out again.",
    size_heading="MiB",
    cases=cases,
    measure=measure,
    columns=(
        Column("up_mib_s", "stored, MiB/s", ",.0f"),
        Column("down_mib_s", "read, MiB/s", ",.0f"),
        Column("both_mib_s", "there and back, MiB/s", ",.0f"),
        Column("cpu_s", "CPU, s", ".2f"),
        Column("requests", "requests", ".0f"),
    ),
    targets=(
        Target(
            "there and back, over obstore alone",
            lambda r: r.ratio(208, "both_mib_s", "starburst", "obstore"),
            0.9,
            at_least=True,
        ),
    ),
)
