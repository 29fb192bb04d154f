// programs.cpp: what a program is compiled to, each way to run it on first use.
#include "python/compiled/programs.hpp"

#include <algorithm>

namespace tapegrad::python {

namespace {

bool is_off(const std::vector<std::string>& off, const char* name) {
  return std::find(off.begin(), off.end(), name) != off.end();
}

}  // namespace

RunnableProgram::RunnableProgram(Program program, std::vector<Node*> params, bool exact, std::vector<std::string> off,
                                 bool check)
    : program_(std::move(program)), params_(std::move(params)), exact_(exact), check_(check), off_(std::move(off)) {
  if (!check_ && !is_off(off_, "repeats")) plan_ = find_repeats(program_, &report_);
}

RunnableProgram::~RunnableProgram() {
  for (Node* n : params_) arena().let_go(n);
  Py_XDECREF(origins);
}

const Draft& RunnableProgram::draft() {
  if (!draft_) {
    counts_.clear();
    std::vector<std::string> off = off_;
    if (exact_) off.push_back("layers");  // which only counts, and nobody may ask
    draft_ = simplify(program_, exact_, off, &counts_);
  }
  return *draft_;
}

void RunnableProgram::count_layers() {
  draft();
  if (!exact_ || is_off(off_, "layers") || layers_counted_) return;
  layers_counted_ = true;
  counts_.push_back({"layers", group_layers(*draft_, exact_)});
}

LayerCounts RunnableProgram::layers() {
  if (!plan_.repeats.empty()) return find_repeat_code(Want::value, {}).layers();
  count_layers();
  return draft_->layers;
}

const std::vector<PassCount>& RunnableProgram::counts() {
  if (plan_.repeats.empty()) {
    count_layers();
    return counts_;
  }
  if (counts_.empty() || counts_[0].name != "repeats") {
    counts_ = find_repeat_code(Want::value, {}).counts();
    counts_.insert(counts_.begin(), {"repeats", plan_.rolled});
  }
  return counts_;
}

Variant& RunnableProgram::find(Want want, const std::vector<bool>& wanted) {
  Variant*& last = last_[static_cast<int>(want)];
  if (last && wanted.empty()) return *last;
  const auto found = variants_.find({want, wanted});
  if (found != variants_.end()) return found->second;
  Lowering how;
  how.forward_only = want == Want::value;
  how.param_gradients = want == Want::param_gradients;
  if (want == Want::input_gradients)
    how.input_gradients = wanted.empty() ? std::vector<bool>(program_.inputs, true) : wanted;
  how.first_writer_stores = !is_off(off_, "first-writer stores");
  how.share_slots = !is_off(off_, "slot sharing");
  how.fuse_products = !is_off(off_, "fused products");
  how.fuse_functions = !is_off(off_, "fused functions");
  how.schedule = !check_ && !is_off(off_, "scheduling");  // what is refused first is refused first in eager code too
  how.exact = exact_;
  Variant& made = variants_.emplace(std::make_pair(want, wanted), Variant(lower(draft(), how))).first->second;
  trim_scratch();
  if (wanted.empty()) last = &made;
  return made;
}

const Variant& RunnableProgram::variant(Want want, const std::vector<bool>& wanted) {
  return find(want, wanted);
}

const RepeatCode& RunnableProgram::find_repeat_code(Want want, const std::vector<bool>& wanted) {
  const auto found = repeat_codes_.find({want, wanted});
  if (found != repeat_codes_.end()) return found->second;
  RepeatWants wants;
  wants.params = want == Want::param_gradients;
  if (want == Want::input_gradients) wants.inputs = wanted.empty() ? std::vector<bool>(program_.inputs, true) : wanted;
  wants.exact = exact_;
  wants.off = off_;
  return repeat_codes_
      .emplace(std::piecewise_construct, std::forward_as_tuple(want, wanted), std::forward_as_tuple(plan_, wants))
      .first->second;
}

LaneVariant::LaneVariant(Split s, const Lowering& how, const std::vector<std::string>& off)
    : split(std::move(s)),
      uniform_draft(simplify(split.uniform, false, off, nullptr)),
      lanes_draft(simplify(split.lanes, false, off, nullptr)),
      uniform(lower(uniform_draft,
                    [&] {
                      Lowering own = how;
                      own.input_gradients.clear();
                      own.forward_only = !how.param_gradients;
                      own.schedule = !is_off(off, "scheduling");
                      own.fuse_functions = !is_off(off, "fused functions");
                      return own;
                    }())),
      uniform_code(uniform),
      steps(split.lanes.code.size()) {
  if (!is_off(off, "column kernels") && split.lanes.params <= ColumnCode::kMostParams) {
    Lowering own = how;
    own.fresh_inputs = true;
    own.exact = false;
    const Lowered lowered = lower(lanes_draft, own);
    if (ColumnCode::suits(lowered)) columns = std::make_unique<ColumnCode>(lowered);
  }
  if (!columns) lanes = std::make_unique<LaneCode>(lower_steps(lanes_draft, how), !is_off(off, "layers"));
}

LaneVariant& RunnableProgram::find_lanes(Want want, const std::vector<LaneInput>& inputs,
                                         const std::vector<bool>& wanted) {
  const auto has_lanes = [&](std::size_t k) { return inputs[k].stride || (k < wanted.size() && wanted[k]); };
  LastLanes& last = last_lanes_[static_cast<int>(want)];
  if (last.variant && last.batched.size() == inputs.size() && last.wanted == wanted) {
    std::size_t k = 0;
    while (k < inputs.size() && last.batched[k] == has_lanes(k)) ++k;
    if (k == inputs.size()) return *last.variant;
  }
  std::vector<bool> batched;
  for (std::size_t k = 0; k < inputs.size(); ++k) batched.push_back(has_lanes(k));
  const auto key = std::make_tuple(want, batched, wanted);
  const auto keep = [&](LaneVariant& v) -> LaneVariant& {
    last = {batched, wanted, &v};
    return v;
  };
  const auto found = lane_variants_.find(key);
  if (found != lane_variants_.end()) return keep(found->second);
  Split split = split_uniform(program_, batched, !is_off(off_, "uniform subexpressions"));
  Lowering how;
  how.forward_only = want == Want::value;
  how.param_gradients = want == Want::param_gradients;
  for (std::uint32_t k : split.lane_inputs)
    if (want == Want::input_gradients) how.input_gradients.push_back(wanted[k]);
  how.first_writer_stores = !is_off(off_, "first-writer stores");
  how.share_slots = !is_off(off_, "slot sharing");
  how.fuse_products = !is_off(off_, "fused products");
  const auto made = lane_variants_.emplace(std::piecewise_construct, std::forward_as_tuple(key),
                                           std::forward_as_tuple(std::move(split), how, off_));
  return keep(made.first->second);
}

}  // namespace tapegrad::python
