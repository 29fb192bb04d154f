// record.cpp: one walk over the nodes that the roots depend on, oldest first, each becoming an instruction.
#include "core/program/record.hpp"

#include <cstring>
#include <iterator>
#include <new>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "core/graph/sweep.hpp"

namespace tapegrad {

namespace {

class Recorder {
 public:
  Recorder(std::vector<Node*> newest_first, std::uint64_t since, const RecordLabels& labels)
      : newest_first_(std::move(newest_first)), since_(since), labels_(labels) {}
  ~Recorder() { clear_scratch(); }

  const std::vector<Node*>& newest_first() const { return newest_first_; }

  void add_inputs(const std::vector<Node*>& inputs) {
    if (inputs.size() > kMaxProgram) Program::refuse_length();
    program_.inputs = static_cast<std::uint32_t>(inputs.size());
    for (std::uint32_t k = 0; k < inputs.size(); ++k) shared_[inputs[k]] = program_.add({Code::input, k});
  }

  void reserve(std::size_t nodes) { program_.code.reserve(nodes + nodes / 4); }

  static void refuse_array(const Node* n) {
    if (n->op == Op::array || (n->flags & kArray))
      throw std::invalid_argument(
          "a Value that holds an array cannot be part of a compiled function; write it for one number, and use vmap "
          "for "
          "many");
  }

  bool is_new(const Node* n) const { return Arena::id(n) >= since_; }

  void add_interior(Node* n) {
    refuse_array(n);
    if (n->flags & kHasRule)
      throw std::invalid_argument(
          "an operation with a _backward rule written in Python cannot be compiled; write it with Value's own "
          "operations, or as Value(data, children, local_grads)");
    if (program_.code.size() > kMaxProgram) Program::refuse_length();
    Instruction i{};
    switch (n->op) {
      case Op::custom:
        i = custom(n);
        break;
      case Op::powc:
        i = {Code::powc, index(n->a), 0, 0, n->exponent};
        break;
      default: {
        i.code = static_cast<Code>(n->op);
        i.a = index(n->a);
        if (kArity[static_cast<int>(n->op)] == 2) i.b = index(n->b);
      }
    }
    remember(n, program_.add(i));
  }

  // The instruction that computes a node; leaves and nodes from before become instructions when they are first asked
  // for.
  std::uint32_t index(Node* n) {
    refuse_array(n);
    const bool scratch = n->op != Op::leaf ? is_new(n) : !n->handle;
    if (scratch) {
      const std::uint32_t known = read(n);
      if (known) return known - 1;
    } else {
      Seen& seen = seen_[(reinterpret_cast<std::uintptr_t>(n) / sizeof(Node)) % std::size(seen_)];
      if (seen.node == n) return seen.index;
      const auto known = shared_.find(n);
      if (known != shared_.end()) {
        seen = {n, known->second};
        return known->second;
      }
    }
    if (scratch && n->op == Op::leaf) {
      const std::uint32_t i = program_.add({Code::constant, 0, 0, 0, n->data});
      constants_.push_back(n);
      remember(n, i);
      return i;
    }
    const std::uint32_t i = program_.add({Code::param, program_.params++});
    params_.push_back(n);
    shared_[n] = i;
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
      const auto known = shared_.find(n);
      if (known == shared_.end()) return true;  // a constant
      return known->second < inputs.size();
    }
    return is_new(n) && whole_.count(n);
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
    program_.check_length();
    clear_scratch();
    constants_.clear();
    return {std::move(program_), std::move(params_), {}, std::exchange(newest_first_, {})};
  }

 private:
  void clear_scratch() {
    for (Node* n : newest_first_)
      if (is_new(n)) n->grad = 0.0;
    for (Node* n : constants_) n->grad = 0.0;
  }
  // The gradients of the nodes just made are all zero, and nobody reads them before the recording is done.
  static std::uint32_t read(const Node* n) {
    std::uint64_t bits;
    std::memcpy(&bits, &n->grad, sizeof bits);
    return static_cast<std::uint32_t>(bits);
  }
  static void remember(Node* n, std::uint32_t i) {
    const std::uint64_t bits = i + 1;
    std::memcpy(&n->grad, &bits, sizeof bits);
  }

  std::uint32_t constant(double x) { return program_.add({Code::constant, 0, 0, 0, x}); }

  Instruction custom(Node* n) {
    Operands* o = n->operands;
    std::vector<std::uint32_t> operands;
    for (std::uint32_t k = 0; k < o->count; ++k) operands.push_back(index(o->nodes()[k]));
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

  std::vector<Node*> newest_first_;
  std::uint64_t since_;
  RecordLabels labels_;
  Program program_;
  std::vector<Node*> params_;
  std::vector<Node*> constants_;                     // leaves that nobody holds
  std::unordered_map<Node*, std::uint32_t> shared_;  // inputs, parameters
  std::unordered_set<Node*> whole_;                  // nodes that are ints in every run
  struct Seen {
    const Node* node;
    std::uint32_t index;
  };
  Seen seen_[4096] = {};  // of shared_, what was asked for lately
};

}  // namespace

Recorded record(Arena& arena, const std::vector<Node*>& roots, const std::vector<Node*>& inputs,
                const std::vector<Look>& looks, std::uint64_t since, const RecordLabels& labels) {
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

  Recorder recorder(collect(top, false), since, labels);
  const std::vector<Node*>& newest_first = recorder.newest_first();
  recorder.reserve(newest_first.size() + inputs.size());
  recorder.add_inputs(inputs);
  for (std::size_t k = newest_first.size(); k-- > 1;)
    if (recorder.is_new(newest_first[k])) recorder.add_interior(newest_first[k]);
  for (const Look& look : looks) recorder.add_guard(look);
  bool any_whole = false;
  for (Node* root : roots) {
    recorder.add_output(root);
    any_whole = any_whole || root->flags & kDataInt;
  }
  std::vector<bool> whole(roots.size(), false);
  if (any_whole) {
    for (std::size_t k = newest_first.size(); k-- > 1;)
      if (recorder.is_new(newest_first[k])) recorder.note_whole(newest_first[k], inputs);
    for (std::size_t k = 0; k < roots.size(); ++k) whole[k] = recorder.is_whole(roots[k], inputs);
  }
  Recorded recorded = recorder.take();
  recorded.whole_outputs = std::move(whole);
  return recorded;
}

std::vector<Node*> nodes_of_values(const Recorded& recorded, const Program& program,
                                   const std::vector<std::uint32_t>& values, std::uint64_t since) {
  std::vector<Node*> out;
  std::size_t k = recorded.newest_first.size();
  const auto next = [&] {  // of the new nodes, each of which became one instruction that is no leaf
    do --k;
    while (Arena::id(recorded.newest_first[k]) < since);
    return recorded.newest_first[k];
  };
  std::uint32_t n = 0;
  for (std::uint32_t value : values) {
    Node* node = nullptr;
    for (; n <= value; ++n) node = is_leaf(program.code[n].code) ? nullptr : next();
    out.push_back(node);
  }
  return out;
}

}  // namespace tapegrad
