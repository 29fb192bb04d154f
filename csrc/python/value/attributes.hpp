// attributes.hpp: what the files that implement the attributes of a Value share.
#pragma once

#include "python/value/value.hpp"

namespace tapegrad::python {

// What a program stored under this name; borrowed, or null with or without an error.
PyObject* stored_attribute(PyObject* self, PyObject* name);

// AttributeError; -1.
int refuse_delete(const char* what);

// operand_attributes.cpp: _prev, _children, _op, _local_grads and _backward.
bool init_operand_attributes();
PyObject* get_children(PyObject* self, void*);
PyObject* get_prev(PyObject* self, void*);
int set_prev(PyObject* self, PyObject* value, void*);
PyObject* get_op(PyObject* self, void*);
int set_op(PyObject* self, PyObject* value, void*);
PyObject* get_local_grads(PyObject* self, void*);
PyObject* get_backward(PyObject* self, void*);
int set_backward(PyObject* self, PyObject* rule, void*);

}  // namespace tapegrad::python
