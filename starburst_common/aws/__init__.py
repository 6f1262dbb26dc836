"""The adapters of an AWS account: `aws_backend` makes a `Backend` of a site. boto3 is spoken here only.

It is imported when one of these names is first used: a slot, which has none, reads the user's buckets by a module of
this room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starburst_common.aws.backend import aws_backend as aws_backend
    from starburst_common.aws.backend import aws_backend_at as aws_backend_at

__all__ = ["aws_backend", "aws_backend_at"]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from starburst_common.aws import backend

        return getattr(backend, name)
