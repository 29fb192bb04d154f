// observe.hpp: how a function that is being recorded notes what it looks at. Outside a recording each hook is one test
// of a counter.
//
// An observer is a Python object of the thread that records. Every place where a Value's number leaves the graph asks
// it for what Python gets to see; places that would change or copy numbers behind its back refuse.
#pragma once

#include "python/tools/node_lines.hpp"
#include "python/value/value.hpp"

namespace tapegrad::python {

extern int recordings;  // functions being recorded just now, in all threads

// The observer of this thread, borrowed; null where this thread records nothing.
PyObject* thread_observer();
inline PyObject* observer() {
  return recordings ? thread_observer() : nullptr;
}

// Notes where a node was made that this thread may be recording. What it has no memory for stays unknown.
void note_recorded(Node* node);

// Where the nodes of this thread's recording were made; null where it records nothing.
const NodeLines* recorded_lines();

// observer.method(value): what Python sees instead of the value's number. New reference.
PyObject* observe(const char* method, PyObject* value);

// observer.construct(data, children, local_grads): the Value that stands for Value(data, children, local_grads) when
// some of the numbers were looked up from Values; None when none was. New reference.
PyObject* observe_construction(PyObject* data, PyObject* children, PyObject* local_grads);

// True, with TypeError set, where this thread is recording: `what` cannot be done inside a compiled function.
bool refuse_while_recording(const char* what);

// Whether `o` is a number that a recorded function got from a Value, and this thread is recording.
bool is_traced_number(PyObject* o);

}  // namespace tapegrad::python
