"""How the pages' code is found that `make fresh` runs; the running itself is there."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from tests import blocks
from tests.blocks import Block, blocks_of
from tests.fresh import NOT_RUN, ROOT, Failed, bare, commit_of, steps_of, wanted


def block(language: str, text: str) -> Block:
    """One of no page in particular."""
    return Block(page="docs/page.md", line=7, language=language, heading="Use", text=text)


def test_fences_of_any_length_and_indentation_are_read() -> None:
    """As the example in the reader shows, and one that nothing closes is an error with its place."""
    assert doctest.testmod(blocks) == doctest.TestResults(failed=0, attempted=2)
    with pytest.raises(ValueError, match=r"page\.md:2: a block is opened here and never closed"):
        list(blocks.blocks("text\n```python\n1\n", page="page.md"))


def test_a_command_is_a_step_with_its_comment_and_its_output_left_out(tmp_path: Path) -> None:
    """After a prompt in a console's block, on every line of a shell's."""
    shown = block("console", "$ starburst runs   # all of them\nrun  label\n$ echo 'a#b'\n")
    assert [step.says for step in steps_of(shown, tmp_path)] == ["starburst runs", "echo 'a#b'"]
    typed = block("sh", "# in another shell\nstarburst runs\n\nls   # here\n")
    assert [step.says for step in steps_of(typed, tmp_path)] == ["starburst runs", "ls"]


def test_a_python_block_is_a_script_as_it_stands(tmp_path: Path) -> None:
    """The same text, in a file of its own."""
    (step,) = steps_of(block("python", "print(1)\n"), tmp_path)
    assert (tmp_path / step.command[-1]).read_text() == "print(1)\n"


def test_no_block_is_passed_over_because_nobody_said_what_it_is(tmp_path: Path) -> None:
    """Without a language there is an error that names those to choose from; what is to be read only has one, too."""
    with pytest.raises(Failed, match=r"docs/page\.md:7: a block of no language: name one of python, console"):
        list(steps_of(block("", "starburst runs\n"), tmp_path))
    assert list(steps_of(block("text", "a diagram\n"), tmp_path)) == []


def test_whatever_is_not_run_is_on_a_page() -> None:
    """A line of the list that no page has any more is to go."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    found = [each for page in pages for each in blocks_of(page, root=ROOT)]
    lines = {bare(line.removeprefix("$ ")) for each in found for line in each.text.splitlines()}
    assert set(NOT_RUN) <= lines


def test_readme_is_run_as_a_whole_and_of_each_page_of_docs_the_first_example() -> None:
    """In the order of a reader who begins with README."""
    found = wanted(ROOT)
    assert [each for each in found if each.page == "README.md"] == blocks_of(ROOT / "README.md", root=ROOT)
    others = [each.page for each in found if each.page != "README.md"]
    assert others
    assert others == sorted(set(others))


def test_a_commit_that_is_not_there_is_one_clear_error(capsys: pytest.CaptureFixture[str]) -> None:
    """And one that is there is told of before anything is done."""
    with pytest.raises(Failed, match="no-such-branch: no commit: fatal: bad revision"):
        commit_of("no-such-branch")
    assert commit_of("HEAD") == commit_of(commit_of("HEAD"))
    assert capsys.readouterr().out.startswith(f"Commit {commit_of('HEAD')[:7]}")
