"""The C interpreter of the benchmarks leaves the process as it was."""

import pytest

from tapegrad.bench.engines import with_c


@pytest.mark.parametrize("engine", [with_c.INTERPRETER, with_c.INTERPRETER_FAST], ids=lambda engine: engine.name)
def test_subnormal_numbers_are_kept(engine):
    try:
        engine.load()
    except with_c.CompilerMissing:
        pytest.skip("no C compiler here")
    smallest = 5e-324
    assert smallest / 2**-10 > 0.0
