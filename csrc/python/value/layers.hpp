// layers.hpp: whole neurons and layers as one call.
#pragma once

#include "python/value/value.hpp"

namespace tapegrad::python {

// neuron(w, x, b, act): act(b + w[0]*x[0] + ...) as one Value; None where Python has to do it because operators or the
// activation were replaced, or a Value is of a kind that needs Python's protocol.
PyObject* neuron(PyObject* module, PyObject* const* args, Py_ssize_t nargs);

// layer(neurons, x, cls, act, flag): the same for objects with attributes w and b, as a list; None if any is not
// exactly a `cls`. Where `flag` is a str, a neuron whose attribute of that name is false has no activation.
PyObject* layer(PyObject* module, PyObject* const* args, Py_ssize_t nargs);

}  // namespace tapegrad::python
