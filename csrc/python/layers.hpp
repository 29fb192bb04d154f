// layers.hpp: whole neurons and layers as one call.
#pragma once

#include "python/value.hpp"

namespace tapegrad::python {

// act(bias + w0*x0 + w1*x1 + ...) as one Value; None where operators or the activation were replaced, so that Python has to do it.
PyObject* neuron(PyObject* weights, PyObject* x, PyObject* bias, PyObject* activation);

// The same for each row of weights: a list of Values, or None.
PyObject* layer(PyObject* weights, PyObject* biases, PyObject* x, PyObject* activation);

}  // namespace tapegrad::python
