// arguments.hpp: the shape of a call's arguments, compared with the arguments of later calls without running Python.
#pragma once

#include <memory>
#include <vector>

#include "python/value/value.hpp"

namespace tapegrad::python {

// What tapegrad.compiled.trees calls a structure: numbers, exact lists, tuples and dicts of them, arrays, static
// arguments.
class ArgumentShape {
 public:
  // Of positional arguments, each described by a structure; null where one has a kind that only Python code can take.
  // An error is set only where a structure is none.
  static std::unique_ptr<ArgumentShape> make(PyObject* structures);
  ~ArgumentShape();
  ArgumentShape(const ArgumentShape&) = delete;
  ArgumentShape& operator=(const ArgumentShape&) = delete;

  std::size_t numbers() const { return numbers_; }

  // Writes the numbers of arguments of this shape; false for any others. Runs no Python code, sets no error.
  bool read(PyObject* const* args, Py_ssize_t count, double* numbers) const;

  // Gradients in the shape of the arguments: that of the only numeric one, or else a tuple with an entry for each, None
  // for static ones. Null with an error set.
  PyObject* gradients(const double* numbers) const;

  int traverse(visitproc visit, void* arg) const;

  static constexpr int kDeepest = 64;  // levels of nesting; what is deeper is none of these shapes

 private:
  enum class Kind { real, whole, fixed, array, list, tuple, dict };
  struct Part {
    Kind kind;
    PyObject* object = nullptr;  // a static argument; the keys of a dict. Owned by structures_
    std::size_t count = 0;       // of parts below, or of an array's numbers
    std::vector<Py_ssize_t> extents;
    bool real = true;  // of an array's numbers
  };
  explicit ArgumentShape(PyObject* structures);
  bool add(PyObject* structure, int levels);
  bool read_part(const Part*& part, PyObject* argument, double*& numbers) const;
  static bool read_array(const Part& part, PyObject* argument, double*& numbers);
  PyObject* gradient(const Part*& part, const double*& numbers) const;

  PyObject* structures_;
  std::vector<Part> parts_;  // in the order of the arguments, each before what is inside it
  std::size_t numbers_ = 0, arguments_ = 0;
  bool single_ = false;  // one numeric argument
};

}  // namespace tapegrad::python
