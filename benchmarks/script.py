"""A flow as a user's script has it; nothing but its function travels to workers."""

from prefect import flow, task


@task
def trivial(item: int) -> int:
    """Its argument."""
    return item


@flow
def mapped(items: int) -> list[int]:
    """The first whole numbers, each by a task run of its own."""
    results: list[int] = trivial.map(list(range(items))).result()
    return results
