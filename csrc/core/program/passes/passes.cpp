// passes.cpp: the list of passes, the loop over it, and what passes share.
#include "core/program/passes/passes.hpp"

#include <algorithm>
#include <numeric>

#include "core/program/interrupts.hpp"

namespace tapegrad {

const Pass kPasses[7] = {
    {"cheap powers", replace_powers},
    {"inverse functions", cancel_logarithms},
    {"constant folding", fold_constants},
    {"common subexpressions", merge_common_subexpressions},
    {"sum chains", merge_sum_chains},
    {"dead code", remove_dead_code},
    {"layers", group_layers},
};

Draft::Draft(Program p) : program(std::move(p)), same(program.code.size()) {
  std::iota(same.begin(), same.end(), 0u);
}

void Draft::rewrite(Program written, const std::vector<std::uint32_t>& place) {
  for (std::uint32_t& o : program.outputs) o = place[o];
  for (Guard& g : program.guards) g.value = place[g.value];
  program.code = std::move(written.code);
  program.pool = std::move(written.pool);
  same.resize(program.code.size());
  std::iota(same.begin(), same.end(), 0u);
}

Draft simplify(Program program, bool exact, const std::vector<std::string>& off, std::vector<PassCount>* counts) {
  Draft draft(std::move(program));
  for (const Pass& pass : kPasses) {
    if (std::find(off.begin(), off.end(), pass.name) != off.end()) continue;
    hear_interrupts();
    const std::size_t count = pass.run(draft, exact);
    if (counts) counts->push_back({pass.name, count});
  }
  return draft;
}

}  // namespace tapegrad
