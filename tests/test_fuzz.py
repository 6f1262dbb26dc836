"""Every decoder, fed with what is nearly valid: `make fuzz` does at length what is done here in short."""

from __future__ import annotations

import warnings

from tests.fuzz.hunt import hunt
from tests.fuzz.targets import all_targets

INPUTS = 15  #: a target


def test_what_is_nearly_valid_is_refused_or_read_and_nothing_else() -> None:
    """Signed or not, an input ends in a value or one of our errors, soon and in little memory; none is unpickled."""
    with all_targets() as targets, warnings.catch_warnings(action="ignore"):
        found = [hunt(target, INPUTS, seed=1) for target in targets]
    assert {(each.target, fault): sample for each in found for fault, sample in each.faults.items()} == {}
    assert sum(each.accepted for each in found if each.signed) > 0
    assert sum(each.refused for each in found if not each.signed) > 0
