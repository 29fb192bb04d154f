// dialects.cpp: the types that show nodes: tapegrad.Value and one for each further dialect.
#include <cstring>
#include <vector>

#include "python/arrays/arrays.hpp"
#include "python/value/value.hpp"

namespace tapegrad::python {

PyTypeObject* dialect_types[kMaxDialects];

namespace {

int dialect_count = 0;
bool dialect_float_grad[kMaxDialects];
char dialect_names[kMaxDialects][128];

}  // namespace

// Walks up from a subclass to the dialect's own type.
Flags fresh_flags(PyTypeObject* type) {
  while (type->tp_dealloc != value_dealloc) type = type->tp_base;
  int i = dialect_count - 1;
  while (i > 0 && dialect_types[i] != type) --i;
  return static_cast<Flags>((i << kDialectShift) | (dialect_float_grad[i] ? kFloatGrad : kGradInt));
}

namespace {

// One table of two, each ended by an empty entry, for ever.
template <typename Entry>
Entry* joined(const Entry* first, const Entry* second, const char* Entry::* name) {
  static std::vector<Entry> all;
  for (const Entry* table : {first, second})
    for (; table->*name; ++table) all.push_back(*table);
  all.push_back(Entry{});
  return all.data();
}

}  // namespace

PyObject* make_dialect(const char* name, bool float_grad) {
  if (dialect_count == kMaxDialects || std::strlen(name) >= sizeof dialect_names[0]) {
    PyErr_Format(PyExc_ValueError, "cannot make dialect '%s': at most %d dialects, with names under %zu characters",
                 name, kMaxDialects, sizeof dialect_names[0]);
    return nullptr;
  }
  char* own_name = dialect_names[dialect_count];
  std::strcpy(own_name, name);
  static PyMemberDef members[] = {
      {"__weaklistoffset__", T_PYSSIZET, offsetof(ValueObject, weakrefs), READONLY, nullptr},
      {"__dictoffset__", T_PYSSIZET, offsetof(ValueObject, dict), READONLY, nullptr},
      {nullptr, 0, 0, 0, nullptr},
  };
  // Every dialect has the slots of its own, so that none pays for Python's generic deallocation of subclasses.
  std::vector<PyType_Slot> slots = {
      {Py_tp_dealloc, reinterpret_cast<void*>(value_dealloc)},
      {Py_tp_traverse, reinterpret_cast<void*>(value_traverse)},
      {Py_tp_clear, reinterpret_cast<void*>(value_clear)},
      {Py_tp_new, reinterpret_cast<void*>(value_new)},
      {Py_tp_init, reinterpret_cast<void*>(value_init)},
      {Py_tp_setattro, reinterpret_cast<void*>(value_setattro)},
      {Py_tp_repr, reinterpret_cast<void*>(value_repr)},
      {Py_tp_members, members},
      {Py_tp_doc, const_cast<char*>(
                      "Value(data, children=(), op='', label='', **names)\n--\n\n"
                      "One number in a computation, or an array of numbers, and how it came about.\n\n"
                      "data: a number, or an array of real numbers with at least one axis, which is copied as\n"
                      "float64. children: the Values it was computed from. op: the operation's name, or a\n"
                      "tuple of the derivatives by each child. label: a name for drawings. The arguments may also be\n"
                      "called _children, _op and local_grads.\n"
                      "TypeError where an argument is of another kind.")},
  };
  if (dialect_count == 0) {
    slots.push_back({Py_tp_getset, joined(value_getset, array_getset, &PyGetSetDef::name)});
    slots.push_back({Py_tp_methods, joined(value_methods, array_methods, &PyMethodDef::ml_name)});
    for (const PyType_Slot* table : {operator_slots, array_slots})
      for (; table->slot; ++table) slots.push_back(*table);
  }
  slots.push_back({0, nullptr});
  PyType_Spec spec = {own_name, sizeof(ValueObject), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
                      slots.data()};
  auto* type = reinterpret_cast<PyTypeObject*>(
      PyType_FromSpecWithBases(&spec, dialect_count ? reinterpret_cast<PyObject*>(value_type()) : nullptr));
  if (!type || (dialect_count == 0 && !hide_array_protocols(type))) return nullptr;
  type->tp_vectorcall = value_vectorcall;
  // Plain instances own no reference to their type, which so must never look unused, whatever a program does with
  // __class__.
  Py_SET_REFCNT(reinterpret_cast<PyObject*>(type), Py_REFCNT(reinterpret_cast<PyObject*>(type)) + (1 << 28));
  dialect_float_grad[dialect_count] = float_grad;
  dialect_types[dialect_count++] = type;
  return Py_NewRef(reinterpret_cast<PyObject*>(type));
}

}  // namespace tapegrad::python
