// contents.cpp: follows what lists and tuples hold as far as it is plain, so that a function may close over a large
// data set without a look by Python at each item.
#include <cstdint>
#include <utility>
#include <vector>

#include "python/compiled/compile.hpp"
#include "python/compiled/environment.hpp"
#include "python/value/value.hpp"

namespace py = pybind11;

namespace tapegrad::python {

namespace {

// Objects met so far, held, so that an address stays theirs. Open addressing.
class Met {
 public:
  Met() = default;
  Met(const Met&) = delete;
  Met& operator=(const Met&) = delete;
  ~Met() {
    for (PyObject* x : table_) Py_XDECREF(x);
  }

  // False where the object was met before.
  bool add(PyObject* x) {
    if (2 * count_ >= table_.size()) {
      std::vector<PyObject*> before(table_.empty() ? 64 : 2 * table_.size());
      before.swap(table_);
      for (PyObject* old : before)
        if (old) *place(old) = old;
    }
    PyObject** at = place(x);
    if (*at) return false;
    *at = Py_NewRef(x);
    ++count_;
    return true;
  }

 private:
  PyObject** place(PyObject* x) {
    const std::size_t last = table_.size() - 1;
    std::size_t at = (reinterpret_cast<std::uintptr_t>(x) * 0x9E3779B97F4A7C15u) >> 24 & last;
    while (table_[at] && table_[at] != x) at = (at + 1) & last;
    return &table_[at];
  }
  std::vector<PyObject*> table_;
  std::size_t count_ = 0;
};

bool is_atom(PyObject* x) {
  return PyFloat_Check(x) || PyLong_Check(x) || PyUnicode_Check(x) || x == Py_None || PyBytes_Check(x) ||
         PyComplex_Check(x) || x == Py_Ellipsis;
}

class Contents {
 public:
  // (checks, Values without attributes, all else), of what the tuple holds that was not met before.
  py::tuple follow(const py::tuple& top) {
    py::list checks, bare, others;
    std::vector<std::pair<PyObject*, Py_ssize_t>> open{{top.ptr(), 0}};  // tuples, each held by its check or by met_
    met_.add(top.ptr());
    while (!open.empty()) {
      auto& [items, at] = open.back();
      if (at == PyTuple_GET_SIZE(items)) {
        open.pop_back();
        continue;
      }
      PyObject* x = PyTuple_GET_ITEM(items, at++);
      if (is_atom(x)) continue;
      if (PyTuple_CheckExact(x)) {
        if (met_.add(x)) open.push_back({x, 0});
      } else if (PyList_CheckExact(x)) {
        if (!met_.add(x)) continue;
        py::list check(3);
        const auto inside = py::reinterpret_steal<py::tuple>(PyList_AsTuple(x));
        if (!inside) throw py::error_already_set();
        check[0] = py::int_(static_cast<int>(kList));
        check[1] = py::reinterpret_borrow<py::object>(x);
        check[2] = inside;
        checks.append(check);
        open.push_back({inside.ptr(), 0});
      } else if (Py_TYPE(x) == value_type() && !as_value(x)->dict) {
        if (met_.add(x)) bare.append(py::handle(x));
      } else {
        others.append(py::handle(x));
      }
    }
    return py::make_tuple(checks, bare, others);
  }

 private:
  Met met_;
};

}  // namespace

void register_contents(py::module_& m) {
  py::class_<Contents>(m, "Contents", "Follows what lists and tuples hold; each object is told of once.")
      .def(py::init<>())
      .def("follow", &Contents::follow, py::arg("items"),
           "(checks of the lists in the tuple, Values without attributes, what else it holds), at any depth of lists "
           "and "
           "tuples; numbers and texts are passed over.");
}

}  // namespace tapegrad::python
