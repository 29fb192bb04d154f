"""The published package's `Value`: tapegrad's own, with a repr that shows the gradient, which starts as the int 0.

`tapegrad run` loads this file a second time under the name `micrograd.engine`; `__name__` then makes its `Value` a
type of that module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["Value"]

if TYPE_CHECKING:
    from tapegrad._core import Value
else:
    from tapegrad._core import make_dialect

    Value = make_dialect(f"{__name__}.Value", float_grad=False)

    def _repr(self: Value) -> str:
        return f"Value(data={self.data}, grad={self.grad})"

    Value.__repr__ = _repr
    Value._record_fields = ("data", "grad")  # what a drawing shows of a node
