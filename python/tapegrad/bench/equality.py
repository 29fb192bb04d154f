"""Whether two engines computed the same: values and gradients to 1e-9, and a sentence with both where they did not."""

import numpy as np
import numpy.typing as npt

from tapegrad.bench.engines.base import Outcome

RELATIVE = 1e-9
#: Numbers near to zero among larger ones are held to this part of the largest.
ABSOLUTE = 1e-12


def difference(name: str, got: Outcome, reference_name: str, expected: Outcome) -> str | None:
    """None if the outcomes agree, else which number differs first, with both.

    Numbers agree within 1e-9 of their size or within 1e-12 of the largest of their kind. NaN agrees with nothing. An
    engine without gradients is held to its values only.
    """
    kinds = [("value", got.values, expected.values)]
    if got.gradients is not None and expected.gradients is not None:
        kinds.append(("gradient", got.gradients, expected.gradients))
    for kind, ours, theirs in kinds:
        if len(ours) != len(theirs):
            return f"{name} gives {len(ours)} {kind}s, {reference_name} gives {len(theirs)}"
        wrong = _differing(np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64))
        if wrong.size:
            i = int(wrong[0])
            a, b = float(ours[i]), float(theirs[i])
            return f"{kind} {i} differs: {name} gives {a!r}, {reference_name} gives {b!r}"
    return None


def _differing(ours: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    finite = theirs[np.isfinite(theirs)]
    largest = np.abs(finite).max() if finite.size else 0.0
    return np.flatnonzero(~np.isclose(ours, theirs, rtol=RELATIVE, atol=ABSOLUTE * largest))
