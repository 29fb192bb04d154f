// array_values.cpp: array nodes as Values: operands from all that Python may give, nodes from drafts, and the operators
// over arrays.
#include <cfenv>
#include <cmath>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "core/ops/ops.hpp"
#include "python/arrays/arrays.hpp"
#include "python/compiled/observe.hpp"

namespace tapegrad::python {

namespace {

// Leaves the flags of floating-point exceptions as they were: kernels raise them on lanes whose results they then do
// not take, and NumPy, when it calls us for the elements of an object array, would make warnings of that. "Invalid" is
// taken back altogether: the operators have compared the NaN that stands for an array.
class KeepFlags {
 public:
#if defined(__SSE2__)
  KeepFlags() : flags_(_mm_getcsr() & ~unsigned{_MM_EXCEPT_INVALID}) {}
  ~KeepFlags() { _mm_setcsr(flags_); }

 private:
  unsigned flags_;
#else
  KeepFlags() { std::fegetexceptflag(&flags_, FE_ALL_EXCEPT); }
  ~KeepFlags() {
    std::fesetexceptflag(&flags_, FE_ALL_EXCEPT);
    std::feclearexcept(FE_INVALID);
  }

 private:
  std::fexcept_t flags_;
#endif
};

// "(3,)", "(2, 3)" or "a number", as text: new reference.
PyObject* shape_text(const Node* node) {
  if (!(node->flags & kArray)) return PyUnicode_FromString("() (one number)");
  PyObject* tuple = shape_tuple(shape_of(node));
  PyObject* text = tuple ? PyObject_Str(tuple) : nullptr;
  Py_XDECREF(tuple);
  return text;
}

// ValueError: which shapes do not fit which operation.
void refuse(const ArrayDraft& draft, const char* label, const char* why) {
  PyObject* texts = PyList_New(0);
  for (std::uint32_t i = 0; texts && i < draft.count; ++i) {
    PyObject* text = shape_text(draft.operands[i]);
    if (!text || PyList_Append(texts, text) < 0) Py_CLEAR(texts);
    Py_XDECREF(text);
  }
  PyObject* separator = texts ? PyUnicode_FromString(" and ") : nullptr;
  PyObject* joined = separator ? PyUnicode_Join(separator, texts) : nullptr;
  if (joined) PyErr_Format(PyExc_ValueError, "[%s] the shape%s %U %s", label, draft.count == 1 ? "" : "s", joined, why);
  Py_XDECREF(joined);
  Py_XDECREF(separator);
  Py_XDECREF(texts);
}

}  // namespace

Node* make_array_leaf(PyObject* array, Flags flags) {
  ArrayDraft draft;
  Buffer* buffer = copy_array(array, &draft.shape);
  if (!buffer) return nullptr;
  draft.settle();
  Node* node = make_array_node(arena(), draft, flags, buffer);
  if (!node) {
    release(buffer);
    no_node();
  }
  return node;
}

Held leaf_of(const Data& data, Flags like) {
  const Flags flags = inherited(like);
  if (data.array) return Held(make_array_leaf(data.array, flags));
  Node* leaf = arena().make_constant(data.number.value, flags | data.number.flags);
  if (!leaf) no_node();
  return Held(leaf);
}

Held read_operand(PyObject* o, const char* what, Flags like) {
  if (is_value(o)) return Held(node_of(o));
  Data data;
  return read_data(o, what, &data) ? leaf_of(data, like) : Held();
}

Node* make_node(ArrayDraft& draft, Flags flags, const char* label) {
  if (const char* why = draft.settle()) {
    refuse(draft, label, why);
    return nullptr;
  }
  Node* node = make_array_node(arena(), draft, flags);
  if (!node) no_node();
  return node;
}

PyObject* make_value(ArrayDraft& draft, Flags first, Flags all, PyTypeObject* type, const char* label) {
  Node* node = make_node(draft, inherited(first), label);
  return node ? show(node, type, all) : nullptr;
}

// ---- lane by lane

Node* make_lanes(Op op, Node* a, Node* b, double exponent, Flags flags) {
  Node* operands[] = {a, b};
  ArrayDraft draft;
  draft.op = ArrayOp::table;
  draft.table = op;
  draft.operands = operands;
  draft.count = b ? 2 : 1;
  draft.number = exponent;
  if (op == Op::add || op == Op::mul) return make_node(draft, flags, info(op).label);  // which raise none for nothing
  const KeepFlags keep;
  return make_node(draft, flags, info(op).label);
}

PyObject* record_lanes(Op op, Node* a, Node* b, PyTypeObject* type) {
  Node* node = make_lanes(op, a, b, 0.0, inherited(a->flags));
  return node ? show(node, type, a->flags | b->flags) : nullptr;
}

PyObject* record_lanes_constant(Op op, Node* a, Number number, bool reversed, PyTypeObject* type) {
  const Flags flags = inherited(a->flags);
  const Held leaf(arena().make_constant(number.value, flags | number.flags));
  if (!leaf) return no_node();
  Node* node = reversed ? make_lanes(op, leaf.get(), a, 0.0, flags) : make_lanes(op, a, leaf.get(), 0.0, flags);
  return node ? show(node, type, a->flags) : nullptr;
}

PyObject* record_lanes_power(Node* a, Number exponent, PyTypeObject* type) {
  Node* node =
      make_lanes(Op::powc, a, nullptr, exponent.value, inherited(a->flags) | (exponent.flags ? kExponentInt : 0));
  return node ? show(node, type, a->flags) : nullptr;
}

PyObject* record_lanes_unary(Op op, Node* a, PyTypeObject* type) {
  Node* node = make_lanes(op, a, nullptr, 0.0, inherited(a->flags));
  return node ? show(node, type, a->flags) : nullptr;
}

// ---- operands that are arrays

PyObject* with_array(PyObject* l, PyObject* r, binaryfunc operation) {
  PyObject* value = is_value(l) ? l : r;
  PyObject* other = is_value(l) ? r : l;
  const bool listed = (PyList_Check(other) || PyTuple_Check(other)) && holds_array(value);
  if (!is_value(value) || !(is_numeric_array(other) || listed)) Py_RETURN_NOTIMPLEMENTED;
  if (observer() && !listed) Py_RETURN_NOTIMPLEMENTED;  // NumPy then goes on element by element
  const Flags flags = node_of(value)->flags;
  const Held leaf = read_operand(other, "an operand", flags);
  if (!leaf) return nullptr;
  PyObject* lifted = handle_of(leaf.get());
  PyObject* out = !lifted ? nullptr : value == l ? operation(l, lifted) : operation(lifted, r);
  Py_XDECREF(lifted);
  return out;
}

PyObject* compare_arrays(PyObject* l, PyObject* r, int operation) {
  const auto side = [](PyObject* o) -> PyObject* {
    if (!is_value(o)) return Py_NewRef(o);
    return holds_array(o) ? data_view(node_of(o)) : to_python(node_of(o)->data, node_of(o)->flags & kDataInt);
  };
  const auto listed = [](PyObject* o) { return PyList_Check(o) || PyTuple_Check(o); };
  const bool array = holds_array(l) || holds_array(r);
  if (!array && !is_numeric_array(r)) Py_RETURN_NOTIMPLEMENTED;
  Number number;
  if (!is_value(r) && !is_numeric_array(r) && !listed(r) && read_number(r, &number) <= 0) {
    if (PyErr_Occurred()) return nullptr;
    Py_RETURN_NOTIMPLEMENTED;
  }
  PyObject *x = side(l), *y = side(r);
  PyObject* out = x && y ? PyObject_RichCompare(x, y, operation) : nullptr;
  Py_XDECREF(x);
  Py_XDECREF(y);
  return out;
}

bool only_lane(Node* node, const char* what, PyObject* error, double* lane) {
  if (node->array->size == 1) {
    *lane = node->array->data->values()[0];
    return true;
  }
  PyObject* shape = shape_tuple(shape_of(node));
  if (shape) {
    PyErr_Format(error,
                 "%s of a Value of shape %S is not one answer but %zu; ask v.data, or reduce it with sum(), mean(), "
                 "max() or min()",
                 what, shape, node->array->size);
    Py_DECREF(shape);
  }
  return false;
}

}  // namespace tapegrad::python
