// origin.hpp: where a Value comes from as a program says it: data, children, an operation's name or local gradients;
// read from Python, checked, and then given to a node.
#pragma once

#include <vector>

#include "python/arrays/arrays.hpp"
#include "python/value/numbers.hpp"
#include "python/value/value.hpp"

namespace tapegrad::python {

// What Value() was called with, each argument in its place.
struct ValueArguments {
  PyObject* data = nullptr;  // all borrowed
  PyObject* children = nullptr;
  PyObject* op = nullptr;
  PyObject* local_grads = nullptr;
  PyObject* label = nullptr;

  // The third place is an operation's name or, in the manner of one-file GPT scripts, the local gradients.
  void set_third(PyObject* third) { (PyUnicode_Check(third) ? op : local_grads) = third; }

  bool set_position(Py_ssize_t i, PyObject* value);

  bool set_keyword(PyObject* name, PyObject* value);

  bool complete() const;
};

// What the arguments say, read and checked; nothing of it is bound to a node yet.
struct ParsedArguments {
  Data data;
  std::vector<Node*> operands;
  std::vector<Data> local_data;
  std::vector<double> local_grads;
  std::vector<Held> local_arrays;
  std::uint32_t label = 0;
  bool arrays = false;  // the data, a child or a local gradient is an array
  bool tracked = false;
  PyObject* kept = nullptr;  // the tuple of the children
  bool from_set = false;

  ~ParsedArguments() { Py_XDECREF(kept); }

  // Takes the children as they are now; which nodes they show is for the end, see read().
  bool keep_children(PyObject* children);

  bool read_children();

  bool read_local_grads(PyObject* numbers);

  // The local gradients as numbers, or as leaves where arrays are about.
  bool settle_local_grads();

  // The nodes come last: what is read before them may run code of the program's, which may do anything to Values.
  bool read(const ValueArguments& args);

  // Under no_grad a Value has no graph, whatever it was computed from.
  void drop_children();

  std::size_t count() const { return operands.size(); }
  const double* grads() const { return local_grads.empty() ? nullptr : local_grads.data(); }

  // Whether the node has to be of Op::array: numbers with a rule of the program's own, or none, need not.
  bool needs_array() const { return data.array || !local_arrays.empty(); }

  // The node of Op::array that the arguments ask for, of the given shape. False with ValueError where local gradients
  // do not fit.
  bool draft(ArrayDraft* out);

  std::vector<Node*> all;  // what a draft's operands point to
};

// A node of its own for the arguments; null with an error set.
Node* make_parsed(ParsedArguments& parsed, Flags flags);

// Gives the handle's node these operands, and the data too if that is asked for. A node that may not have them where it
// stands is replaced by a new one. False with an error set.
bool bind(ValueObject* self, ParsedArguments& parsed, bool with_data);

}  // namespace tapegrad::python
