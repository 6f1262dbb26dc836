"""A function of one item in; a task that calls it for many out: `@task.starburst_map`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import DecoratedOperator, task_decorator_factory

from airflow_provider_starburst.operators.starburst import StarburstMapOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, TaskDecorator

    from airflow_provider_starburst.results import StarburstResults


class _StarburstMapDecoratedOperator(DecoratedOperator, StarburstMapOperator):  # type: ignore[misc]
    """The first argument of the call is the items; the others are the same for all."""

    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *(name for name in StarburstMapOperator.template_fields if name not in ("items", "op_args", "op_kwargs")),
    )
    custom_operator_name = "@task.starburst_map"

    def __init__(self, *, python_callable: Callable[..., Any], op_args: Any, op_kwargs: Any, **kwargs: Any) -> None:
        super().__init__(
            kwargs_to_upstream={"python_callable": python_callable, "op_args": op_args, "op_kwargs": op_kwargs},
            python_callable=python_callable,
            op_args=op_args,
            op_kwargs=op_kwargs,
            **kwargs,
        )

    def execute(self, context: Context) -> StarburstResults:
        """As the operator does: what Airflow would do beside it is for assets, and in 3.0 it fails."""
        return StarburstMapOperator.execute(self, context)

    def _set_items_apart(self) -> None:
        """What is called has them among its arguments."""
        self.items, self.op_args, self.op_kwargs = split(self.python_callable, self.op_args, self.op_kwargs)


def split(
    fn: Callable[..., Any], args: Collection[Any] | None, kwargs: Mapping[str, Any] | None
) -> tuple[Any, list[Any], dict[str, Any]]:
    """The items among the arguments of a call, and the other arguments.

    >>> def work(item, k=3): ...
    >>> split(work, [[1, 2]], {"k": 4}), split(work, [], {"item": [1, 2]})
    (([1, 2], [], {'k': 4}), ([1, 2], [], {}))
    """
    given, named = list(args or ()), dict(kwargs or {})
    if given:
        return given[0], given[1:], named
    first = next(iter(inspect.signature(fn).parameters), "")
    return named.pop(first, None), given, named


def starburst_map_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """`@task.starburst_map`: the function takes one item, the call takes all; options as of `StarburstMapOperator`.

    ```python
    @task.starburst_map(workers=50)
    def score(customer, model="v1"): ...


    score(customers(), model="v2")
    ```
    """
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=False,  # what the function returns for one item is not what the task returns
        decorated_operator_class=_StarburstMapDecoratedOperator,
        **kwargs,
    )
