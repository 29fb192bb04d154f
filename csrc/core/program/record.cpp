// record.cpp: one walk over the nodes that were made, oldest first, each becoming an instruction. Where some of them
// are not of the recording, the walk is over those that the roots depend on.
#include "core/program/record.hpp"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <new>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "core/graph/sweep.hpp"

namespace tapegrad {

namespace {

constexpr std::uint32_t kUnknown = ~0u;     // of nodes that are no instruction yet
constexpr std::uint64_t kMostDead = 65536;  // nodes that came and went, beyond a multiple of those alive

class Recorder {
 public:
  Recorder(Arena& arena, std::uint64_t since, const RecordLabels& labels) : since_(since), labels_(labels) {
    const std::uint64_t made = arena.next_id() - since_;
    const std::size_t live = std::min<std::size_t>(made, arena.live_nodes());
    // Of nodes that came and went there may be many more than there are instructions.
    if (made < kMostDead + 16 * live) known_ = Scratch<std::uint32_t>(made, 0);
    make_room(live + live / 4 + 16);
  }

  void add_inputs(const std::vector<Node*>& inputs) {
    if (inputs.size() > kMaxProgram) Program::refuse_length();
    program_.inputs = static_cast<std::uint32_t>(inputs.size());
    for (std::uint32_t k = 0; k < inputs.size(); ++k) remember(inputs[k], add({Code::input, k}));
  }

  static void refuse_array(const Node* n) {
    if (n->op == Op::array || (n->flags & kArray))
      throw std::invalid_argument(
          "a Value that holds an array cannot be part of a compiled function; write it for one number, and use vmap "
          "for "
          "many");
  }

  // All interior nodes made since, oldest first. False where a walk from the roots may find less: one has no consumer,
  // or is of a kind that is refused.
  bool add_made_nodes(Arena& arena, const std::vector<Node*>& roots, const std::vector<Look>& looks) {
    const bool plain = arena.for_each_interior_since(since_, [&](Node* n) {
      if (n->op == Op::array || (n->flags & (kArray | kHasRule)) || count_ > kMaxProgram) return false;
      add_interior(n);
      return true;
    });
    if (!plain) return false;
    for (Node* n : roots) used_[index(n)] = 1;
    for (const Look& look : looks) used_[index(look.node)] = 1;
    return !std::memchr(used_.begin() + program_.inputs, 0, count_ - program_.inputs);
  }

  // Those that `top` depends on.
  void add_nodes_below(Node* top) {
    const LargeVector<Node*> newest_first = collect_interior(top);
    for (std::size_t k = newest_first.size(); k-- > 1;)
      if (is_new(newest_first[k])) add_interior(newest_first[k]);
  }

  bool is_new(const Node* n) const { return Arena::id(n) >= since_; }

  void add_interior(Node* n) {
    refuse_array(n);
    if (n->flags & kHasRule)
      throw std::invalid_argument(
          "an operation with a _backward rule written in Python cannot be compiled; write it with Value's own "
          "operations, or as Value(data, children, local_grads)");
    if (count_ > kMaxProgram) Program::refuse_length();
    Instruction i{};
    switch (n->op) {
      case Op::custom:
        i = custom(n);
        break;
      case Op::powc:
        i = {Code::powc, use(n->a), 0, 0, n->exponent};
        break;
      default: {
        i.code = static_cast<Code>(n->op);
        i.a = use(n->a);
        if (kArity[static_cast<int>(n->op)] == 2) i.b = use(n->b);
      }
    }
    remember(n, add(i));
    nodes_[interior_++] = n;
  }

  // The instruction that computes a node; leaves and nodes from before become instructions when they are first asked
  // for.
  std::uint32_t index(Node* n) {
    const std::uint32_t known = find(n);
    return known != kUnknown ? known : add_leaf(n);
  }

  std::uint32_t use(Node* operand) {
    const std::uint32_t i = index(operand);
    used_[i] = 1;
    return i;
  }

  void add_guard(const Look& look) {
    const auto note = static_cast<std::uint32_t>(program_.notes.size());
    if (program_.notes.empty() || program_.notes.back() != look.note) program_.notes.push_back(look.note);
    program_.guards.push_back(
        {look.kind, index(look.node), look.expected,
         static_cast<std::uint32_t>(program_.notes.size() > note ? note : program_.notes.size() - 1)});
  }

  void add_output(Node* n) { program_.outputs.push_back(index(n)); }

  // Whether a value is an int in every run: made of ints by operations that keep to them. Nodes have to be asked oldest
  // first. Whether parameters are ints may change, and so may the sign of an int exponent.
  bool is_whole(Node* n, const std::vector<Node*>& inputs) {
    if (!(n->flags & kDataInt)) return false;
    if (n->op == Op::leaf) {
      const std::uint32_t known = find(n);
      return known < inputs.size() || known == kUnknown || program_.code[known].code == Code::constant;
    }
    return is_new(n) && whole_.count(n);
  }
  void note_whole(const std::vector<Node*>& inputs) {
    for (std::uint32_t k = 0; k < interior_; ++k) note_whole(nodes_[k], inputs);
  }
  void note_whole(Node* n, const std::vector<Node*>& inputs) {
    const auto whole = [&](Node* operand) { return is_whole(operand, inputs); };
    bool all = n->flags & kDataInt;
    if (n->op == Op::custom) {
      Operands* o = n->operands;
      Node** nodes = o->nodes();
      if (o->label == labels_.select) {
        all = all && whole(nodes[1]) && whole(nodes[2]);
      } else if (o->label == labels_.detach) {
        all = all && whole(nodes[0]);
      } else {
        all = false;
      }
    } else if (n->op == Op::pow) {
      all = false;
    } else if (n->op != Op::less && n->op != Op::less_equal && n->op != Op::equal) {
      all = all && whole(n->a) && (kArity[static_cast<int>(n->op)] < 2 || whole(n->b));
    }
    if (all) whole_.insert(n);
  }

  Recorded take() {
    nodes_.resize(interior_);
    program_.check_length();
    return {std::move(program_), std::move(params_), {}, std::move(nodes_)};
  }

 private:
  void make_room(std::size_t size) {
    Scratch<std::uint8_t> used(size, 0);
    if (count_) std::memcpy(used.begin(), used_.begin(), count_);
    program_.code.reserve(size);
    nodes_.resize(size);
    used_.swap(used);
  }

  std::uint32_t add(const Instruction& i) {
    if (count_ == used_.size()) [[unlikely]]
      make_room(2 * count_);
    if (count_ >= 2 * kMaxProgram) [[unlikely]]
      Program::refuse_length();
    program_.code.push_back(i);
    return count_++;
  }

  // The instruction of a node that has one, or kUnknown.
  std::uint32_t find(Node* n) {
    const std::uint64_t made = Arena::id(n) - since_;
    return made < known_.size() ? known_[made] - 1 : find_shared(n);
  }
  [[gnu::noinline]] std::uint32_t find_shared(Node* n) {
    Seen& seen = seen_of(n);
    if (seen.node == n) return seen.index;
    const auto known = shared_.find(n);
    if (known == shared_.end()) return kUnknown;
    seen = {n, known->second};
    return known->second;
  }
  void remember(Node* n, std::uint32_t i) {
    const std::uint64_t made = Arena::id(n) - since_;
    if (made < known_.size()) {
      known_[made] = i + 1;
    } else {
      shared_[n] = i;
      seen_of(n) = {n, i};
    }
  }

  [[gnu::noinline]] std::uint32_t add_leaf(Node* n) {
    refuse_array(n);
    const bool is_constant = n->op == Op::leaf && !n->handle;
    const std::uint32_t i =
        add(is_constant ? Instruction{Code::constant, 0, 0, 0, n->data} : Instruction{Code::param, program_.params++});
    if (!is_constant) params_.push_back(n);
    remember(n, i);
    return i;
  }

  std::uint32_t constant(double x) {
    const std::uint32_t i = add({Code::constant, 0, 0, 0, x});
    used_[i] = 1;
    return i;
  }

  Instruction custom(Node* n) {
    Operands* o = n->operands;
    std::vector<std::uint32_t> operands;
    for (std::uint32_t k = 0; k < o->count; ++k) operands.push_back(use(o->nodes()[k]));
    if (o->label == labels_.detach) return {Code::detach, operands[0]};
    if (o->label == labels_.select) return {Code::select, operands[0], operands[1], operands[2]};
    Instruction i{Code::linear};
    if (o->label == labels_.linear) {  // operands, then the value, then the derivatives
      i.b = o->count / 2;
      i.c = operands[i.b];
      operands.erase(operands.begin() + i.b);
    } else {
      i.b = o->has_local_grads ? o->count : 0;
      operands.resize(i.b);
      for (std::uint32_t k = 0; k < i.b; ++k) operands.push_back(constant(o->local_grads()[k]));
      i.c = constant(n->data);
    }
    if (program_.pool.size() + operands.size() > kMaxProgram) Program::refuse_length();
    i.a = static_cast<std::uint32_t>(program_.pool.size());
    program_.pool.insert(program_.pool.end(), operands.begin(), operands.end());
    return i;
  }

  struct Seen {
    const Node* node;
    std::uint32_t index;
  };
  Seen& seen_of(const Node* n) {
    return seen_[(reinterpret_cast<std::uintptr_t>(n) / sizeof(Node)) % std::size(seen_)];
  }

  std::uint64_t since_;
  RecordLabels labels_;
  Program program_;
  std::vector<Node*> params_;
  LargeVector<Node*> nodes_;    // of the instructions that are no leaves
  Scratch<std::uint8_t> used_;  // instructions that are operands, results or guarded
  std::uint32_t count_ = 0, interior_ = 0;
  Scratch<std::uint32_t>
      known_;  // by id, from since_ on: the instruction of a node, and one; 0 where there is none yet
  std::unordered_map<Node*, std::uint32_t> shared_;  // of nodes that known_ has no place for
  Seen seen_[4096] = {};                             // of shared_, what was asked for lately
  std::unordered_set<Node*> whole_;                  // nodes that are ints in every run
};

}  // namespace

Recorded record(Arena& arena, const std::vector<Node*>& roots, const std::vector<Node*>& inputs,
                const std::vector<Look>& looks, std::uint64_t since, const RecordLabels& labels) {
  std::optional<Recorder> started(std::in_place, arena, since, labels);
  started->add_inputs(inputs);
  if (!started->add_made_nodes(arena, roots, looks)) {
    started.emplace(arena, since, labels);
    started->add_inputs(inputs);
    std::vector<Node*> all = roots;
    for (const Look& look : looks) all.push_back(look.node);
    Node* top = arena.make_custom(all.data(), all.size(), nullptr, 0, 0.0, 0);
    if (!top) throw NoNodes(arena);
    arena.hold(top);
    struct Release {
      Arena& arena;
      Node* top;
      ~Release() { arena.let_go(top); }
    } release{arena, top};
    started->add_nodes_below(top);
  }
  Recorder& recorder = *started;
  for (const Look& look : looks) recorder.add_guard(look);
  bool any_whole = false;
  for (Node* root : roots) {
    recorder.add_output(root);
    any_whole = any_whole || root->flags & kDataInt;
  }
  std::vector<bool> whole(roots.size(), false);
  if (any_whole) {
    recorder.note_whole(inputs);
    for (std::size_t k = 0; k < roots.size(); ++k) whole[k] = recorder.is_whole(roots[k], inputs);
  }
  Recorded recorded = recorder.take();
  recorded.whole_outputs = std::move(whole);
  return recorded;
}

std::vector<Node*> nodes_of_values(const Recorded& recorded, const Program& program,
                                   const std::vector<std::uint32_t>& values) {
  std::vector<Node*> out;
  auto next = recorded.nodes.begin();
  std::uint32_t n = 0;
  for (std::uint32_t value : values) {
    Node* node = nullptr;
    for (; n <= value; ++n) node = is_leaf(program.code[n].code) ? nullptr : *next++;
    out.push_back(node);
  }
  return out;
}

}  // namespace tapegrad
