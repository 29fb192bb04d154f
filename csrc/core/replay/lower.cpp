// lower.cpp: the way from a program to words over slots.
#include "core/replay/lower.hpp"

#include "core/program/interrupts.hpp"
#include "core/replay/fuse.hpp"
#include "core/replay/fused.hpp"
#include "core/replay/needs.hpp"
#include "core/replay/schedule.hpp"
#include "core/replay/slots.hpp"

namespace tapegrad {

Lowered lower(const Draft& draft, const Lowering& how) {
  Lowered out;
  const Needs needs = find_needs(draft, how);
  hear_interrupts();
  place_fixed(draft, how, needs, &out);
  std::uint32_t registers = emit_words(draft, how, needs, out);
  hear_interrupts();
  if (how.schedule && how.fuse_functions && (!how.exact || fused_kernels().library_fits()))
    registers = fuse(draft.program, out, registers);
  hear_interrupts();
  if (how.schedule) {
    schedule(out.streams[0], false, registers);
    hear_interrupts();
    schedule(out.streams[1], true, registers);
  }
  hear_interrupts();
  for (std::uint32_t o : draft.program.outputs) out.outputs.push_back(draft.same[o]);
  for (const Guard& g : draft.program.guards) out.guards.push_back({draft.same[g.value], g});
  share_slots(how, fixed_slots(draft, how, needs, out, registers), &out);
  out.exponents = {};
  return out;
}

}  // namespace tapegrad
