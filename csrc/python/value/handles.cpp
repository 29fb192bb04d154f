// handles.cpp: the life of a handle: allocation, death, pinning, and its part in garbage collection.
#include <new>

#include "python/compiled/observe.hpp"
#include "python/tools/modes.hpp"
#include "python/value/value.hpp"

namespace tapegrad::python {

namespace {

// Handles for the next nodes while somebody watches. Then free_handles is empty, and free_handle_count says that no
// more are taken back, so that handles come and go by the long ways below.
ValueObject* parked = nullptr;
int parked_count = 0;
int watchers = 0;

bool park(ValueObject* self) {
  if (!watchers || parked_count >= kMaxFreeHandles) return false;
  ++parked_count;
  self->node = reinterpret_cast<Node*>(parked);
  parked = self;
  return true;
}

// Frees the memory of a dead handle whose fields are all null.
void free_memory(ValueObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  if (type->tp_dealloc == value_dealloc) {
    if (free_handle_count < kMaxFreeHandles) {
      ++free_handle_count;
      self->node = reinterpret_cast<Node*>(free_handles);
      free_handles = self;
    } else if (!park(self)) {
      PyObject_GC_Del(self);
    }
  } else {
    type->tp_free(reinterpret_cast<PyObject*>(self));
    Py_DECREF(type);  // instances of a subclass own a reference to it; plain ones do not, dialect types are immortal
  }
}

void dealloc_heavy(PyObject* o) {
  ValueObject* self = as_value(o);
  Node* node = self->node;
  if (watchers && !(node->flags & kPinned) && !self->weakrefs && is_plain(o) && park(self)) {
    node->handle = nullptr;
    return arena().drop(node);
  }
  if (self->weakrefs && node->refs > 1 && is_plain(o) && !(node->flags & kPinned)) {
    // Somebody watches this handle by weak reference and the graph still needs the node: the object stays, as pure
    // Python's would.
    node->flags |= kPinned;
    Py_SET_REFCNT(o, static_cast<Py_ssize_t>(node->refs) - 1);
    return;
  }
  PyObject_GC_UnTrack(o);
  Py_TRASHCAN_BEGIN(o, value_dealloc) if (self->weakrefs) PyObject_ClearWeakRefs(o);
  self->node = nullptr;
  node->handle = nullptr;
  node->flags &= static_cast<Flags>(~(kPinned | kTracked | kHasRule));
  Py_CLEAR(self->rule);
  Py_CLEAR(self->dict);
  free_memory(self);
  arena().drop(node);
  Py_TRASHCAN_END
}

}  // namespace

ValueObject* free_handles = nullptr;
int free_handle_count = 0;
bool tracking_unsettled = false;

void begin_watching() {
  if (watchers++) return;
  parked = free_handles;
  parked_count = free_handle_count;
  free_handles = nullptr;
  free_handle_count = kMaxFreeHandles;
}

void end_watching() {
  if (--watchers) return;
  free_handles = parked;
  free_handle_count = parked_count;
  parked = nullptr;
}

PyObject* show_slowly(Node* node, PyTypeObject* type) {
  ValueObject* at_hand = parked;
  if (at_hand) {  // make_handle() finds just this one
    parked = reinterpret_cast<ValueObject*>(at_hand->node);
    --parked_count;
    at_hand->node = nullptr;
    free_handles = at_hand;
    ++free_handle_count;
  }
  PyObject* handle = make_handle(node, type);
  if (!handle) {
    discard(node);
    return nullptr;
  }
  if (recordings) note_recorded(node);
  return modes_on ? apply_modes(handle) : handle;
}

ValueObject* allocate_handle(PyTypeObject* type) {
  ValueObject* self = PyObject_GC_New(ValueObject, type);
  if (!self) return nullptr;
  Py_DECREF(type);  // taken by the allocation; see free_memory()
  self->dict = self->rule = self->weakrefs = nullptr;
  return self;
}

void value_dealloc(PyObject* o) {
  ValueObject* self = as_value(o);
  Node* node = self->node;
  if ((node->flags & kPinned) || self->weakrefs || free_handle_count >= kMaxFreeHandles) [[unlikely]]
    return dealloc_heavy(o);
  ++free_handle_count;
  self->node = reinterpret_cast<Node*>(free_handles);
  free_handles = self;
  node->handle = nullptr;
  arena().drop(node);
}

// From now on every consumer edge, past and future, owns a reference to the handle.
void pin(ValueObject* self) {
  Node* node = self->node;
  if (node->flags & kPinned) return;
  node->flags |= kPinned;
  PyObject* o = reinterpret_cast<PyObject*>(self);
  Py_SET_REFCNT(o, Py_REFCNT(o) + static_cast<Py_ssize_t>(node->refs) - 1);
}

void track(ValueObject* self) {
  Node* node = self->node;
  if (node->flags & kTracked) return;
  pin(self);
  node->flags |= kTracked;
  if (!PyObject_GC_IsTracked(reinterpret_cast<PyObject*>(self))) PyObject_GC_Track(self);
  if (node->refs > 1) tracking_unsettled = true;
}

PyObject* no_node() {
  if (arena().full())
    PyErr_SetString(PyExc_MemoryError, Arena::full_text());
  else
    PyErr_NoMemory();
  return nullptr;
}

PyObject* show_tracked(Node* node) {
  PyObject* h = make_handle(node, type_of(node->flags));
  if (!h) {
    discard(node);
    return nullptr;
  }
  track(as_value(h));
  if (recordings) note_recorded(node);
  return modes_on ? apply_modes(h) : h;
}

void settle_tracking() {
  if (!tracking_unsettled) return;
  tracking_unsettled = false;
  const int collecting = PyGC_Disable();  // a collection in mid-walk could free the pages walked over
  arena().for_each_interior([](Node* node) {
    if (node->flags & kTracked) return;
    bool tracked = false;
    for_each_operand(node, [&](Node* operand) { tracked |= (operand->flags & kTracked) != 0; });
    if (!tracked) return;
    PyObject* h = handle_of(node);
    if (!h) {
      PyErr_Clear();
      tracking_unsettled = true;
      return;
    }
    const bool was = tracking_unsettled;
    track(as_value(h));
    tracking_unsettled = was;  // its consumers are still ahead in this very walk
    Py_DECREF(h);
  });
  if (collecting) PyGC_Enable();
}

int value_traverse(PyObject* o, visitproc visit, void* arg) {
  ValueObject* self = as_value(o);
  if (!is_plain(o)) Py_VISIT(Py_TYPE(o));
  Py_VISIT(self->dict);
  Py_VISIT(self->rule);
  Node* node = self->node;
  if (!node || !(node->flags & kTracked)) return 0;
  int stop = 0;
  for_each_operand(node, [&](Node* operand) {
    if (!stop && (operand->flags & kTracked)) stop = visit(static_cast<PyObject*>(operand->handle), arg);
  });
  return stop;
}

// Edges between nodes never form a cycle, so every cycle goes through one of these two.
int value_clear(PyObject* o) {
  ValueObject* self = as_value(o);
  if (self->node) self->node->flags &= static_cast<Flags>(~kHasRule);
  Py_CLEAR(self->rule);
  Py_CLEAR(self->dict);
  return 0;
}

}  // namespace tapegrad::python
