// value.hpp: the Python object that shows a node, and the inline parts of making one; shared by the files that
// implement `Value`.
//
// A handle is a small Python object that points at one node; a node has at most one. The handle owns one count of
// Node::refs. A light handle may die while its node lives on and is made anew when somebody asks. A pinned handle
// carries something (attributes, a backward rule, a subclass, a weak reference) and lives as long as its node: each
// consumer edge owns a reference to it. A tracked handle (implies pinned) may be part of a reference cycle; then every
// node that consumes it is tracked too, so that Python's collector sees exactly the edges that the graph has.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include "core/graph/arena.hpp"
#include "core/ops/ops.hpp"

namespace tapegrad::python {

struct ValueObject {
  PyObject_HEAD Node* node;  // link of the free list while the object is dead
  PyObject* dict;            // attributes, or null; present only on pinned handles
  PyObject* rule;            // backward rule assigned from Python, or null
  PyObject* weakrefs;
};

// The one arena of the process, guarded by the interpreter lock. Never destroyed: handles may outlive any static
// object.
union Engine {
  Arena arena;
  Engine();
  ~Engine() {}
};
extern Engine engine;
inline Arena& arena() {
  return engine.arena;
}

inline constexpr int kMaxDialects = 16;
extern PyTypeObject* dialect_types[kMaxDialects];  // strong references, for ever; entry 0 is tapegrad.Value
inline PyTypeObject* value_type() {
  return dialect_types[0];
}

void value_dealloc(PyObject* self);

// Flags of a fresh leaf of this type or of a subclass of it.
Flags fresh_flags(PyTypeObject* type);

// Whether the object is an instance of a dialect's own type, not of a subclass written in Python.
inline bool is_plain(PyObject* o) {
  return Py_TYPE(o)->tp_dealloc == value_dealloc;
}
inline bool is_value(PyObject* o) {
  return is_plain(o) || PyType_IsSubtype(Py_TYPE(o), value_type());
}
inline ValueObject* as_value(PyObject* o) {
  return reinterpret_cast<ValueObject*>(o);
}
inline Node* node_of(PyObject* o) {
  return as_value(o)->node;
}

inline PyTypeObject* type_of(Flags flags) {
  return dialect_types[(flags & kDialectMask) >> kDialectShift];
}

// The type that shows results over `o`: its own when plain, its dialect's when it is an instance of a subclass.
inline PyTypeObject* result_type(PyObject* o) {
  return is_plain(o) ? Py_TYPE(o) : type_of(node_of(o)->flags);
}

// What a new node takes over from its first operand: the dialect, and with it whether a fresh gradient is an int.
inline Flags inherited(Flags flags) {
  const Flags own = flags & (kDialectMask | kFloatGrad);
  static_assert(kFloatGrad >> 5 == kGradInt);
  return static_cast<Flags>(own | ((~own & kFloatGrad) >> 5));
}

// Settles that a result is one that Python would hold as an int: a zero loses its sign. From 2**53 on it may have been
// rounded, and is a float here.
inline Flags int_flag(double* z) {
  if (!(*z < kMaxInt && *z > -kMaxInt)) return 0;
  *z += 0.0;
  return kDataInt;
}

inline constexpr int kMaxFreeHandles = 4096;
extern ValueObject* free_handles;  // plain handles for the next nodes, linked through ValueObject::node
extern int free_handle_count;
ValueObject* allocate_handle(PyTypeObject* type);

// While somebody watches (a mode, a recording), every new node takes the long way through show_slowly(): no handle is
// left in free_handles, those there are wait elsewhere. Calls nest, over all threads.
void begin_watching();
void end_watching();

// The handle of a node that has none; null with MemoryError set, and then the node is as before.
inline PyObject* make_handle(Node* node, PyTypeObject* type) {
  ValueObject* h = free_handles;
  if (h) [[likely]] {
    free_handles = reinterpret_cast<ValueObject*>(h->node);
    --free_handle_count;
#ifdef Py_REF_DEBUG
    _Py_NewReference(reinterpret_cast<PyObject*>(h));
#else
    Py_SET_REFCNT(reinterpret_cast<PyObject*>(h), 1);
#endif
    Py_SET_TYPE(reinterpret_cast<PyObject*>(h), type);
  } else {
    h = allocate_handle(type);
    if (!h) return nullptr;
  }
  h->node = node;
  node->handle = h;
  ++node->refs;
  return reinterpret_cast<PyObject*>(h);
}

// A new reference to the handle of any node, made if need be.
inline PyObject* handle_of(Node* node) {
  if (node->handle) return Py_NewRef(static_cast<PyObject*>(node->handle));
  return make_handle(node, type_of(node->flags));
}

// Frees a node that was made but never got a handle or a consumer.
inline void discard(Node* node) {
  ++node->refs;
  arena().drop(node);
}

// Shows a node just made over operands with these flags: makes its handle and tracks it when an operand is tracked.
// Steals the node: on failure it is freed, MemoryError is set and null returned.
PyObject* show_tracked(Node* node);
PyObject* no_node();                                    // null, with a MemoryError that says why the arena gave no node
PyObject* show_slowly(Node* node, PyTypeObject* type);  // handles.cpp: no handle is at hand
inline PyObject* show(Node* node, PyTypeObject* type, Flags operand_flags) {
  if (!node) [[unlikely]]
    return no_node();
  if (operand_flags & kTracked) [[unlikely]]
    return show_tracked(node);
  if (!free_handles) [[unlikely]]
    return show_slowly(node, type);
  return make_handle(node, type);
}

void pin(ValueObject* self);
void track(ValueObject* self);

// Tracks every node downstream of one that became tracked after it had consumers. Cheap when there is none.
void settle_tracking();
extern bool tracking_unsettled;

// Slots and members, each implemented in the file named.
int value_traverse(PyObject* self, visitproc visit, void* arg);             // handles.cpp
int value_clear(PyObject* self);                                            // handles.cpp
PyObject* value_new(PyTypeObject* type, PyObject* args, PyObject* kwargs);  // construct.cpp
int value_init(PyObject* self, PyObject* args, PyObject* kwargs);           // construct.cpp
PyObject* value_vectorcall(PyObject* type, PyObject* const* args, std::size_t nargsf, PyObject* kwnames);
void settle_subclass(PyObject* self);                                  // construct.cpp
bool set_children(PyObject* self, PyObject* children);                 // origin.cpp
int value_setattro(PyObject* self, PyObject* name, PyObject* value);   // attributes.cpp
extern PyGetSetDef value_getset[];                                     // attributes.cpp
PyObject* value_repr(PyObject* self);                                  // attributes.cpp
int store_attribute(PyObject* self, PyObject* name, PyObject* value);  // attributes.cpp: v.name = value past the class
int delete_attribute(PyObject* self, PyObject* name);                  // attributes.cpp
int assign_label(PyObject* self, PyObject* label);                     // attributes.cpp
bool init_attributes();                                                // attributes.cpp
bool init_labels();                                                    // labels.cpp
bool remember_native_fields();                                         // attributes.cpp
PyObject* value_add(PyObject* l, PyObject* r);                         // operators.cpp
PyObject* value_subtract(PyObject* l, PyObject* r);                    // operators.cpp
PyObject* value_multiply(PyObject* l, PyObject* r);                    // operators.cpp
PyObject* value_divide(PyObject* l, PyObject* r);                      // operators.cpp
PyObject* value_power(PyObject* l, PyObject* r, PyObject* modulus);    // operators.cpp
PyObject* value_negative(PyObject* self);                              // operators.cpp
bool remember_native_methods();                                        // methods.cpp
PyObject* native_method(Op op);                                        // methods.cpp: borrowed
extern PyMethodDef value_methods[];                                    // methods.cpp
extern PyType_Slot operator_slots[];                                   // methods.cpp, ends with {0, nullptr}
PyObject* make_dialect(const char* name, bool float_grad);             // dialects.cpp
PyObject* value_backward(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames);  // backward.cpp
PyObject* value_zero_grad(PyObject* self, PyObject*);                                                  // gradients.cpp
PyObject* value_detach(PyObject* self, PyObject*);                                                     // gradients.cpp

// The text of an operation's label: '+', '**2', or what a custom node was given.
PyObject* op_label(Node* node);
// Index of a custom node's label; -1 with an error set.
long intern_label(PyObject* text);
PyObject* label_text(std::uint32_t index);  // borrowed

}  // namespace tapegrad::python
