// environment.hpp: comparing what a function closes over with a snapshot.
#pragma once

#include "python/value/value.hpp"

namespace tapegrad::python {

// Kinds of checks, as tapegrad.compiled.checks has them.
enum CheckKind { kCell, kNames, kItems, kList, kArray, kType, kBare, kCall };

// `checks` is a snapshot made by tapegrad.compiled.environment. 0: all as it was; k > 0: check k - 1 does not hold; -1:
// error set.
int unchanged(PyObject* checks);

}  // namespace tapegrad::python
