"""Images as task definitions name them in; where tasks really pull them from out: an implementation of `Runner`."""

from __future__ import annotations

from dataclasses import replace

from tests.testbed.distribution import Distribution
from tests.testbed.runners import CannotPull, Order, Runner, Running


class Pulls:
    """A runner that pulls what the bed's ECR holds from there, and lets it count as a pull."""

    def __init__(self, runner: Runner, distribution: Distribution, *, really: bool) -> None:
        self._runner = runner
        self._distribution = distribution
        self._really = really  #: an image's name says where it is pulled from

    def pull(self, image: str) -> None:
        """Have the image at hand. Raises `CannotPull`."""
        if not self._really and self._distribution.lacks(image):
            raise CannotPull(
                f"pull image manifest has been retried 1 time(s): failed to resolve ref {image}: {image}: not found"
            )
        self._runner.pull(self._local(image))
        self._distribution.count_pull(image)

    def start(self, order: Order) -> Running:
        """Start one."""
        return self._runner.start(replace(order, image=self._local(order.image)))

    def running(self) -> list[str]:
        """Task ids of what really runs now."""
        return self._runner.running()

    def close(self) -> None:
        """End everything that was started."""
        self._runner.close()

    def _local(self, image: str) -> str:
        return (self._really and self._distribution.pulled_from(image)) or image
