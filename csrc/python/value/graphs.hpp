// graphs.hpp: a graph taken apart into flat arrays and put together again, for pickling and copying at any depth.
#pragma once

#include <pybind11/pybind11.h>

#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "python/value/value.hpp"

namespace tapegrad::python {

// Registers NodeList, list_nodes, export_nodes, import_graph and clone in the module.
void register_graphs(pybind11::module_& m);

template <typename T>
pybind11::bytes as_bytes(const std::vector<T>& v) {
  return pybind11::bytes(reinterpret_cast<const char*>(v.data()), v.size() * sizeof(T));
}

template <typename T>
std::vector<T> from_bytes(pybind11::handle h) {
  if (!PyBytes_Check(h.ptr()) || static_cast<std::size_t>(PyBytes_GET_SIZE(h.ptr())) % sizeof(T))
    throw pybind11::value_error("damaged graph: an array is missing or cut short");
  std::vector<T> v(static_cast<std::size_t>(PyBytes_GET_SIZE(h.ptr())) / sizeof(T));
  if (!v.empty()) std::memcpy(v.data(), PyBytes_AS_STRING(h.ptr()), v.size() * sizeof(T));
  return v;
}

class NodeList;

// ---- export_graph.cpp

void list_nodes(pybind11::handle root, pybind11::object owner);
pybind11::tuple export_nodes(const NodeList& list);
pybind11::object find_exported(pybind11::handle value);

// ---- import_graph.cpp

std::unique_ptr<NodeList> import_graph(const pybind11::tuple& arrays, const pybind11::tuple& externals);

// ---- array_graphs.cpp

// What an array node has besides its operands and its number, as a tuple.
pybind11::tuple describe(const Array& array);

// The node that describe() told of, over the operands that next() gives one by one. Throws value_error for anything
// damaged.
Node* restore_array(pybind11::handle saved, double value, Flags flags, const std::function<Node*()>& next);

// A node over the same operands with the same lanes; null without memory.
Node* clone_array(const Node* node, Flags flags);

// Makes a Value fresh from __new__ a leaf that holds the array.
void hold_array(pybind11::handle value, pybind11::handle data);

}  // namespace tapegrad::python
