// graphs.hpp: a graph taken apart into flat arrays and put together again, for pickling and copying at any depth.
#pragma once

#include <pybind11/pybind11.h>

namespace tapegrad::python {

// Registers NodeList, export_graph, import_graph and clone in the module.
void register_graphs(pybind11::module_& m);

}  // namespace tapegrad::python
