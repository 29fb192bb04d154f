// fuzz_core.cpp: byte strings as programs for the arena and the sweep, beside a model made of plain vectors: after
// every sweep all numbers have the model's bits, and reference counts and the number of live nodes are the model's.
#include "fuzz.hpp"

#include <algorithm>
#include <set>

#include "core/graph/sweep.hpp"
#include "core/ops/ops.hpp"

#define REQUIRE(condition)                                                                 \
  do {                                                                                     \
    if (!(condition)) {                                                                    \
      std::fprintf(stderr, "%s:%d: REQUIRE(%s) failed\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                        \
    }                                                                                      \
  } while (0)

namespace tapegrad::test {

namespace {

struct Handle {
  Arena* arena;
  Node* node;
  long references;
};
void retain(void* handle) {
  ++static_cast<Handle*>(handle)->references;
}
void release(void* handle) {
  auto* h = static_cast<Handle*>(handle);
  if (--h->references) return;
  h->node->handle = nullptr;
  h->node->flags &= static_cast<Flags>(~kPinned);
  h->arena->drop(h->node);
  delete h;
}

// What a node is, kept apart from it.
struct Model {
  Op op = Op::leaf;
  std::vector<int> operands;
  std::vector<double> local_grads;
  double exponent = 0, data = 0, grad = 0;
  bool rule = false;
  bool owned = false;  // a program holds its handle
  Node* node = nullptr;
};

class Machine {
 public:
  Machine(const std::uint8_t* data, std::size_t size) : in_(data, size), arena_({retain, release}) {}

  void run() {
    while (!in_.empty()) step();
    check();
    while (!vars_.empty()) drop(static_cast<std::uint32_t>(vars_.size() - 1));
    for (std::size_t i = 0; i < models_.size(); ++i)
      if (models_[i].owned) disown(static_cast<int>(i));
    REQUIRE(arena_.live_nodes() == 0);
  }

 private:
  int pick() { return vars_[in_.below(static_cast<std::uint32_t>(vars_.size()))]; }

  // Makes `node`, over `operands`, a variable.
  void take(Node* node, Model model) {
    REQUIRE(node);
    ++node->refs;
    model.node = node;
    model.data = node->data;
    models_.push_back(std::move(model));
    vars_.push_back(static_cast<int>(models_.size() - 1));
  }

  void drop(std::uint32_t k) {
    Node* node = models_[static_cast<std::size_t>(vars_[k])].node;
    vars_.erase(vars_.begin() + k);
    arena_.drop(node);
  }

  void disown(int i) {
    models_[static_cast<std::size_t>(i)].owned = false;
    release(models_[static_cast<std::size_t>(i)].node->handle);
  }

  void step() {
    const std::uint32_t kind = in_.byte() % 24;
    if (vars_.size() > 40) return drop(in_.below(static_cast<std::uint32_t>(vars_.size())));
    if (vars_.empty() || kind == 0) return leaf();
    switch (kind) {
      case 1:
      case 2:
      case 3: {  // any unary operation; what would raise follows IEEE
        const int first = static_cast<int>(Op::relu);
        const Op op = static_cast<Op>(
            first + static_cast<int>(in_.below(static_cast<std::uint32_t>(static_cast<int>(Op::count) - first))));
        return unary(op, pick());
      }
      case 4:
      case 5:
      case 6:
      case 7:
      case 8: {
        const int last = static_cast<int>(Op::relu) - 1, first = static_cast<int>(Op::add);
        return binary(
            static_cast<Op>(first + static_cast<int>(in_.below(static_cast<std::uint32_t>(last - first + 1)))), pick(),
            pick());
      }
      case 9:
        return power(pick(), in_.number());
      case 10:
      case 11:
        return custom();
      case 12:
      case 13:
      case 14:
        return drop(in_.below(static_cast<std::uint32_t>(vars_.size())));
      case 15:
        return assign(pick());
      case 16:
        return replace_operands(pick());
      case 17:
        return own(pick());
      case 18:
        return one_rule(pick());
      case 19:
        return zero(pick());
      case 20:
        return check();
      default:
        return sweep_from(pick());
    }
  }

  void leaf() {
    const double x = in_.number();
    take(in_.coin() ? arena_.make_leaf(x, 0) : arena_.make_constant(x, 0), {});
  }

  void unary(Op op, int a) {
    Node* operand = at(a).node;
    double z = 0;
    bool is_int;
    evaluate_unary(op, operand->data, false, &z, &is_int);
    Model m;
    m.op = op;
    m.operands = {a};
    take(arena_.make_unary(op, operand, z, 0), m);
  }

  void binary(Op op, int a, int b) {
    const double x = at(a).data, y = at(b).data;
    double z = 0;
    switch (op) {
#define TAPEGRAD_BINARY(id, ...)   \
  case Op::id:                     \
    z = Rule<Op::id>::value(x, y); \
    break;
#include "core/ops/ops.def"
      default:
        REQUIRE(false);
    }
    Model m;
    m.op = op;
    m.operands = {a, b};
    take(arena_.make_binary(op, at(a).node, at(b).node, z, 0), m);
  }

  void power(int a, double exponent) {
    Model m;
    m.op = Op::powc;
    m.operands = {a};
    m.exponent = exponent;
    take(arena_.make_powc(at(a).node, exponent, fn::pow(at(a).data, exponent), 0), m);
  }

  // Operands and local gradients for a custom node that may have `limit` and what is older.
  Model custom_model(std::vector<Node*>* nodes, const Node* before) {
    Model m;
    m.op = Op::custom;
    const std::uint32_t count = in_.below(5);
    const bool grads = in_.coin();
    for (std::uint32_t i = 0; i < count; ++i) {
      const int operand = pick();
      if (before && !Arena::precedes(at(operand).node, before)) continue;
      m.operands.push_back(operand);
      nodes->push_back(at(operand).node);
      if (grads) m.local_grads.push_back(in_.number());
    }
    return m;
  }

  void custom() {
    std::vector<Node*> nodes;
    Model m = custom_model(&nodes, nullptr);
    m.rule = m.local_grads.empty() && in_.coin();
    Node* node = arena_.make_custom(nodes.data(), static_cast<std::uint32_t>(nodes.size()),
                                    m.local_grads.empty() ? nullptr : m.local_grads.data(), 1, in_.number(), 0);
    if (m.rule) node->flags |= kHasRule;
    take(node, m);
  }

  void assign(int i) {
    at(i).node->data = at(i).data = in_.number();
    at(i).node->grad = at(i).grad = in_.number();
  }

  void replace_operands(int i) {
    Node* node = at(i).node;
    if (page_of(node)->leaf_page) return;
    std::vector<Node*> nodes;
    Model m = custom_model(&nodes, node);
    const std::uint32_t label = in_.coin();
    if (nodes.empty() && !label) {
      m.op = Op::leaf;
      node->flags &= static_cast<Flags>(~kHasRule);
    }
    REQUIRE(arena_.set_operands(node, nodes.data(), static_cast<std::uint32_t>(nodes.size()),
                                m.local_grads.empty() ? nullptr : m.local_grads.data(), label));
    at(i).op = m.op;
    at(i).operands = m.operands;
    at(i).local_grads = m.local_grads;
  }

  // Gives a node a handle that the program holds, and that from then on lives as the node does; or lets go of it.
  void own(int i) {
    Model& m = at(i);
    if (m.owned) return disown(i);
    if (m.node->handle) {  // still there for its consumers
      retain(m.node->handle);
      m.owned = true;
      return;
    }
    const long edges = edges_to(i);
    m.node->handle = new Handle{&arena_, m.node, 1 + edges};
    ++m.node->refs;
    m.node->flags |= kPinned;
    m.owned = true;
  }

  void one_rule(int i) {
    REQUIRE(apply_rule(at(i).node));
    model_rule(i);
  }

  void zero(int root) {
    zero_gradients(at(root).node);
    for (int i : reachable({root})) at(i).grad = 0;
  }

  // ---- the model's side

  Model& at(int i) { return models_[static_cast<std::size_t>(i)]; }

  // Everything that the given models lead to, newest first by the order in which a sweep meets it.
  std::vector<int> reachable(std::vector<int> pending) {
    std::set<int> seen(pending.begin(), pending.end());
    while (!pending.empty()) {
      const int i = pending.back();
      pending.pop_back();
      for (int operand : at(i).operands)
        if (seen.insert(operand).second) pending.push_back(operand);
    }
    return {seen.rbegin(), seen.rend()};
  }

  std::vector<int> alive() {
    std::vector<int> roots = vars_;
    for (std::size_t i = 0; i < models_.size(); ++i)
      if (models_[i].owned) roots.push_back(static_cast<int>(i));
    return reachable(roots);
  }

  long edges_to(int i) {
    long edges = 0;
    for (int k : alive()) edges += std::count(at(k).operands.begin(), at(k).operands.end(), i);
    return edges;
  }

  double model_partial(const Model& m, std::size_t k) {
    Node x{}, y{}, z{};
    x.data = at(m.operands[0]).data;
    z.op = m.op;
    z.data = m.data;
    z.a = &x;
    if (m.op == Op::powc) {
      z.exponent = m.exponent;
    } else {
      y.data = at(m.operands.back()).data;
      z.b = &y;
    }
    return partial(z, static_cast<int>(k));
  }

  void model_rule(int i) {
    const Model& m = at(i);
    if (m.op == Op::leaf) return;
    if (m.op == Op::custom) {
      for (std::size_t k = 0; k < m.local_grads.size(); ++k) at(m.operands[k]).grad += m.local_grads[k] * m.grad;
      return;
    }
    std::vector<double> amounts;
    for (std::size_t k = 0; k < m.operands.size(); ++k) amounts.push_back(model_partial(m, k) * m.grad);
    for (std::size_t k = 0; k < m.operands.size(); ++k) at(m.operands[k]).grad += amounts[k];
  }

  // ---- sweeps

  struct Rules {
    Machine* machine;
    int countdown;  // rules until one says stop; negative: none does
  };

  static bool call(void* context, Node* node) {
    auto* rules = static_cast<Rules*>(context);
    Arena& arena = rules->machine->arena_;
    if (rules->countdown-- == 0) return false;
    Node* leaf = arena.make_constant(2.0, 0);  // a graph of its own
    Node* inner = arena.make_binary(Op::mul, leaf, leaf, 4.0, 0);
    ++inner->refs;
    inner->grad = 1.0;
    REQUIRE(sweep(inner) && leaf->grad == 4.0);
    arena.drop(inner);
    for (std::uint32_t k = 0; node->op == Op::custom && k < node->operands->count; ++k)
      node->operands->nodes()[k]->grad += 3.0 * node->grad;
    return true;
  }

  void sweep_from(int root) {
    at(root).node->grad = at(root).grad = in_.coin() ? 1.0 : in_.number();
    const bool with_rules = in_.byte() % 4 == 0;
    Rules rules{this, with_rules ? static_cast<int>(in_.byte() % 6) - 2 : -1};
    int countdown = rules.countdown;
    bool stopped = false;
    if (with_rules) {
      stopped = !sweep_with_rules(arena_, at(root).node, call, &rules);
    } else {
      REQUIRE(sweep(at(root).node));
    }
    std::vector<int> order = reachable({root});
    std::erase_if(order, [&](int i) { return is_leaf(at(i).node) || at(i).op == Op::leaf; });
    std::sort(order.begin(), order.end(), [&](int i, int k) { return Arena::id(at(i).node) > Arena::id(at(k).node); });
    bool model_stopped = false;
    for (int i : order) {
      if (with_rules && (at(i).node->flags & kHasRule)) {
        if (countdown-- == 0) {
          model_stopped = true;
          break;
        }
        for (int operand : at(i).operands)
          if (at(i).op == Op::custom) at(operand).grad += 3.0 * at(i).grad;
      } else {
        model_rule(i);
      }
    }
    REQUIRE(stopped == model_stopped);
    check();
  }

  void check() {
    const std::vector<int> living = alive();
    REQUIRE(arena_.live_nodes() == living.size());
    std::vector<std::uint32_t> refs(models_.size(), 0);
    for (int i : living)
      for (int operand : at(i).operands) ++refs[static_cast<std::size_t>(operand)];
    for (int v : vars_) ++refs[static_cast<std::size_t>(v)];
    for (int i : living) {
      const Node* n = at(i).node;
      REQUIRE(n->refs == refs[static_cast<std::size_t>(i)] + (n->handle ? 1 : 0));
      REQUIRE(n->op == at(i).op);
      REQUIRE(n->mark != kMarked);
      REQUIRE(same_number(n->data, at(i).data));
      REQUIRE(same_number(n->grad, at(i).grad));
    }
  }

  Bytes in_;
  Arena arena_;
  std::vector<Model> models_;
  std::vector<int> vars_;
};

}  // namespace

void fuzz_one(const std::uint8_t* data, std::size_t size) {
  Machine(data, size).run();
}

}  // namespace tapegrad::test
