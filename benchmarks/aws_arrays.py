"""Large arrays to AWS and back: how much memory the driver needs, how fast beside boto3, how soon after the end."""

from __future__ import annotations

import io
import os
import time
from typing import Any

from benchmarks.scenario import Case, Column, Scenario, Target

ITEM_BYTES = 1 << 20
WORKERS = 2
NAPS = 400


def cases(quick: bool) -> list[Case]:
    """200 MiB by ours and by boto3."""
    return [Case(name, 200, 1 if quick else 3) for name in ("starburst", "boto3")]


def measure(contender: str, size: int) -> dict[str, float]:
    """`size` MiB there and `size` MiB back."""
    return by_starburst(size) if contender == "starburst" else by_boto3(size)


def by_starburst(size: int) -> dict[str, float]:
    """Through workers that change every array; results taken one by one."""
    import numpy as np

    from benchmarks.bed import cluster_on_aws, forget_peak, memory_mib

    def more(array: Any) -> Any:
        return array + 1.0

    def nap(_: int) -> float:
        time.sleep(0.01)
        return time.time()

    with cluster_on_aws(WORKERS) as (_, cluster):
        cluster.map(more, [np.zeros(ITEM_BYTES // 4)] * 4)  # workers are warm, and libraries loaded
        items = [np.full(ITEM_BYTES // 8, float(number)) for number in range(size)]
        before = memory_mib()
        forget_peak()
        started = time.perf_counter()
        run = cluster.start(more, items)
        stored_s = time.perf_counter() - started
        for index, value in run.iter_completed(ordered=True):
            assert value[0] == index + 1
        took_s = time.perf_counter() - started
        grown_mib = memory_mib("VmHWM") - before
        run.wait()
        store = run._backend.store
        pack_mib = max(len(store.get(key)) for key in store.list(f"runs/{run.id}/packs/")) / 2**20
        ended = max(cluster.map(nap, range(NAPS)))
        end_s = time.time() - ended
    return {
        "up_mib_s": size / stored_s,
        "both_mib_s": 2 * size / took_s,
        "packs_of_memory": grown_mib / pack_mib,
        "grown_mib": grown_mib,
        "end_s": end_s,
    }


def by_boto3(size: int) -> dict[str, float]:
    """One object of the same size."""
    from tests.testbed.bed import Bed

    with Bed() as bed:
        s3, bucket, body = bed.boto("s3"), bed.site["bucket"], os.urandom(size << 20)
        started = time.perf_counter()
        s3.upload_fileobj(io.BytesIO(body), bucket, "body")
        stored_s = time.perf_counter() - started
        s3.download_fileobj(bucket, "body", io.BytesIO())
        took_s = time.perf_counter() - started
    return {"up_mib_s": size / stored_s, "both_mib_s": 2 * size / took_s}


SCENARIO = Scenario(
    name="aws_arrays",
    title="200 MiB of arrays to AWS and back",
    about=f"Arrays of {ITEM_BYTES >> 20} MiB on {WORKERS} warm workers of the test bed, each changed and returned; "
    "results are taken one by one. boto3 uploads and downloads one object of the same size. Memory is what the driver "
    f"grew by at most, over its largest pack. End: from the end of the last of {NAPS} short items to the map's return.",
    size_heading="MiB",
    cases=cases,
    measure=measure,
    columns=(
        Column("up_mib_s", "stored, MiB/s", ".0f"),
        Column("both_mib_s", "there and back, MiB/s", ".0f"),
        Column("grown_mib", "driver grew, MiB", ".1f"),
        Column("packs_of_memory", "of its largest pack", ".2f"),
        Column("end_s", "end to result, s", ".2f"),
    ),
    targets=(
        Target("driver memory over its largest pack", lambda r: r.spread("starburst", 200, "packs_of_memory"), 1.5),
        Target(
            "there and back, over boto3 alone",
            lambda r: r.ratio(200, "both_mib_s", "starburst", "boto3"),
            0.5,
            at_least=True,
        ),
        Target("from the last item's end to the results, s", lambda r: r.spread("starburst", 200, "end_s"), 1),
    ),
)
