// arrays.hpp: arrays between Python and the core: NumPy arrays in and out, and array nodes as Values.
#pragma once

#include "core/arrays/arrays.hpp"
#include "python/value/numbers.hpp"
#include "python/value/value.hpp"

namespace tapegrad::python {

inline bool holds_array(PyObject* o) {
  return is_value(o) && (node_of(o)->flags & kArray);
}

// A node counted as a consumer counts it: made nodes have no count of their own until a handle or a consumer takes
// them.
class Held {
 public:
  explicit Held(Node* node = nullptr) : node_(node) {
    if (node_) arena().hold(node_);
  }
  Held(Held&& other) noexcept : node_(other.node_) { other.node_ = nullptr; }
  Held& operator=(Held&& other) noexcept {
    Node* old = node_;
    node_ = other.node_;
    other.node_ = nullptr;
    if (old) arena().let_go(old);
    return *this;
  }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  ~Held() {
    if (node_) arena().let_go(node_);
  }
  Node* get() const { return node_; }
  explicit operator bool() const { return node_ != nullptr; }

 private:
  Node* node_;
};

// ---- arrays.cpp: NumPy arrays

// Whether `o` is a NumPy array, and whether it is one of real numbers.
bool is_ndarray(PyObject* o);
bool is_numeric_array(PyObject* o);

// A number, or a new reference to a NumPy array of real numbers with at least one axis.
struct Data {
  Number number{};
  PyObject* array = nullptr;
  Data() = default;
  Data(Data&& other) noexcept : number(other.number), array(other.array) { other.array = nullptr; }
  Data& operator=(Data&&) = delete;
  ~Data() { Py_XDECREF(array); }
};

// Reads a number, an array, or what NumPy makes one of: lists, tuples, anything with __array__. False with a TypeError
// naming `what` for everything else, arrays of other things than real numbers included.
bool read_data(PyObject* o, const char* what, Data* out);

// The array's numbers, as float64, in a buffer of their own, and its shape. Null with an error set.
Buffer* copy_array(PyObject* array, Shape* shape);

// A NumPy array over a buffer, which it keeps alive: writing to it writes to the Value. New reference.
PyObject* view_of(Buffer* buffer, const Shape& shape);

// What v.data and v.grad give for a Value that holds an array; new references.
PyObject* data_view(Node* node);
PyObject* grad_view(Node* node);
// v.data = value, v.grad = value: in the Value's own shape, to which the value is broadcast. -1 with an error set.
int assign_data(Node* node, PyObject* value);
int assign_grad(Node* node, PyObject* value, const char* what = "grad");

// Sets the error of an assignment in whose course code of the program's changed what the Value holds; -1.
int refuse_changed();

// A shape as a tuple, new reference; a draft's operands' shapes in words, for errors.
PyObject* shape_tuple(const Shape& shape);

// ---- array_values.cpp: nodes

// A leaf that holds the array; null with an error set.
Node* make_array_leaf(PyObject* array, Flags flags);

// An operand: a Value's node, a number or an array-like as a leaf of the dialect of `like`. Empty with an error set.
Held read_operand(PyObject* o, const char* what, Flags like);

// A leaf that holds the data. Empty with an error set.
Held leaf_of(const Data& data, Flags like);

// The node of a draft, or null with the error set that says which shapes do not fit `label`.
Node* make_node(ArrayDraft& draft, Flags flags, const char* label);
// ... shown as a Value. `flags` are those of the operands together, the first one's last.
PyObject* make_value(ArrayDraft& draft, Flags first, Flags all, PyTypeObject* type, const char* label);

// Lane by lane, with broadcasting: a node, or null with an error set.
Node* make_lanes(Op op, Node* a, Node* b, double exponent, Flags flags);
PyObject* record_lanes(Op op, Node* a, Node* b, PyTypeObject* type);
PyObject* record_lanes_constant(Op op, Node* a, Number number, bool reversed, PyTypeObject* type);
PyObject* record_lanes_power(Node* a, Number exponent, PyTypeObject* type);
PyObject* record_lanes_unary(Op op, Node* a, PyTypeObject* type);

// An operator with an operand that is no number: if it is an array, the operator with that array as a Value, else
// NotImplemented.
PyObject* with_array(PyObject* l, PyObject* r, binaryfunc operation);

// Comparisons where a side is an array: a NumPy array of truth values. NotImplemented where no side is.
PyObject* compare_arrays(PyObject* l, PyObject* r, int operation);

// bool(v), float(v) and int(v) where v holds an array: of one lane only. -1 and null with an error set.
bool only_lane(Node* node, const char* what, PyObject* error, double* lane);

// ---- array_methods.cpp, array_index.cpp, array_ufunc.cpp

extern PyMethodDef array_methods[];
extern PyGetSetDef array_getset[];
extern PyType_Slot array_slots[];  // ends with {0, nullptr}

// len() and iteration are for Values that hold arrays. So that nobody takes the others for containers, a class has the
// slots without the attributes __len__ and __iter__; Python gives a subclass no slot where there is no attribute, so it
// is given them here.
bool hide_array_protocols(PyTypeObject* type);
void give_array_protocols(PyTypeObject* type);

Py_ssize_t value_length(PyObject* self);
PyObject* value_iterate(PyObject* self);
PyObject* value_reshape(PyObject* self, PyObject* args, PyObject* kwargs);
PyObject* value_transpose(PyObject* self, PyObject* args);
PyObject* reduce_lanes(ArrayOp op, PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames);
PyObject* value_matmul(PyObject* l, PyObject* r);
PyObject* value_subscript(PyObject* self, PyObject* key);
PyObject* value_array_ufunc(PyObject* self, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames);

// dot(a, b), where(condition, a, b), maximum(a, b), minimum(a, b), clip(x, low, high): Values, numbers and arrays.
// maximum and minimum are in methods.cpp.
PyObject* dot(PyObject* a, PyObject* b);
PyObject* where(PyObject* condition, PyObject* a, PyObject* b);
PyObject* maximum(PyObject* a, PyObject* b);
PyObject* minimum(PyObject* a, PyObject* b);
PyObject* clip(PyObject* x, PyObject* low, PyObject* high);

}  // namespace tapegrad::python
