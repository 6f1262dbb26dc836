"""What a backend must offer, as small protocols with their promises. One frozen `Backend` bundles them.

Every adapter is held to these sentences by one contract suite.
"""

from starburst_common.ports.backend import KEY_BYTES, TOLLS, Backend
from starburst_common.ports.clock import Clock
from starburst_common.ports.compute import Compute, Wait, WorkerSpec
from starburst_common.ports.images import Access, Images, Repository, StoredImage
from starburst_common.ports.pace import Pace
from starburst_common.ports.queue import Depth, Leased, WorkQueue
from starburst_common.ports.quotas import Basis, LaunchSpeed, Limit, QuotaAsk, Quotas, Turns, Unit
from starburst_common.ports.store import MEMORY_BYTES, SMALL_BYTES, Entry, ObjectStore, is_key, is_there

__all__ = [
    "KEY_BYTES",
    "MEMORY_BYTES",
    "SMALL_BYTES",
    "TOLLS",
    "Access",
    "Backend",
    "Basis",
    "Clock",
    "Compute",
    "Depth",
    "Entry",
    "Images",
    "LaunchSpeed",
    "Leased",
    "Limit",
    "ObjectStore",
    "Pace",
    "QuotaAsk",
    "Quotas",
    "Repository",
    "StoredImage",
    "Turns",
    "Unit",
    "Wait",
    "WorkQueue",
    "WorkerSpec",
    "is_key",
    "is_there",
]
