"""When outcomes agree, and what is said when they do not."""

import math

import numpy as np
import pytest

from tapegrad.bench.engines.base import Outcome
from tapegrad.bench.equality import difference


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ([1.0], [1.0]),
        ([1.0 + 9e-10], [1.0]),
        ([1e300], [1e300 * (1 + 9e-10)]),
        ([1e6, 5e-7], [1e6, 0.0]),  # rounding of the large one
        ([], []),
        ([math.inf], [math.inf]),
    ],
)
def test_equal(ours, theirs):
    assert difference("a", Outcome(ours, None), "b", Outcome(theirs, None)) is None
    assert difference("a", Outcome([], ours), "b", Outcome([], theirs)) is None


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ([1.0 + 2e-9], [1.0]),
        ([1e-20], [2e-20]),
        ([1e6, 5e-6], [1e6, 0.0]),
        ([math.nan], [math.nan]),
        ([math.inf], [1.0]),
    ],
)
def test_different(ours, theirs):
    assert difference("a", Outcome(ours, None), "b", Outcome(theirs, None)) is not None
    assert difference("a", Outcome([], ours), "b", Outcome([], theirs)) is not None


def test_both_values_are_shown():
    message = difference("ours", Outcome([1.0, 2.5], None), "theirs", Outcome(np.array([1.0, 2.0]), None))
    assert message == "value 1 differs: ours gives 2.5, theirs gives 2.0"


def test_different_numbers_of_numbers():
    message = difference("ours", Outcome([], [1.0]), "theirs", Outcome([], [1.0, 2.0]))
    assert message == "ours gives 1 gradients, theirs gives 2"


def test_missing_gradients_are_not_compared():
    assert difference("ours", Outcome([1.0], None), "theirs", Outcome([1.0], [2.0])) is None
