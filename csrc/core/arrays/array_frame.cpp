// array_frame.cpp: runs the rules of array nodes, aside of other threads where that is worth it.
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <new>

#include "core/arrays/array_rules.hpp"
#include "core/graph/arena.hpp"

namespace tapegrad {

namespace {

// Lanes times operands from which on a rule lets other threads run: some tens of microseconds.
constexpr std::size_t kWorthAPause = 1 << 16;

PauseHooks hooks_now;

// Rules that are at work while other threads run, and a way to wait for the next one to finish. The counts change only
// while their thread has the turn; the mutex serves the waiting.
std::size_t paused_rules = 0;
std::mutex finished_mutex;
std::condition_variable finished;
std::size_t finished_count = 0;

bool busy(const Node* node) {
  const Array* array = node->op == Op::array ? node->array : nullptr;
  return array && array->grad && array->grad->busy;
}

bool touches_busy(const Node* node) {
  if (busy(node)) return true;
  for (std::uint32_t i = 0; i < node->array->held(); ++i)
    if (busy(node->array->operands()[i])) return true;
  return false;
}

void wait_for_another() {
  const std::size_t seen = finished_count;
  void* state = hooks_now.begin();
  {
    std::unique_lock lock(finished_mutex);
    finished.wait(lock, [&] { return finished_count != seen; });
  }
  hooks_now.end(state);
}

bool large(const Array& array) {
  std::size_t most = array.size;
  for (std::uint32_t i = 0; i < array.count; ++i)
    if (const Array* operand = array_of(array.operands()[i])) most = operand->size > most ? operand->size : most;
  return most >= kWorthAPause / (array.count + 1);
}

// Does the work while other threads run.
template <typename Work>
bool aside(Arena& arena, Frame& frame, Work work) {
  frame.hold(arena);
  ++paused_rules;
  void* state = hooks_now.begin();
  const bool fine = work();
  hooks_now.end(state);
  --paused_rules;
  return fine;
}

void finish(Arena& arena, Frame& frame) {
  frame.let_go(arena);
  {
    const std::lock_guard lock(finished_mutex);
    ++finished_count;
  }
  finished.notify_all();
}

}  // namespace

void set_pause_hooks(PauseHooks hooks) noexcept {
  hooks_now = hooks;
}
const PauseHooks& pause_hooks() noexcept {
  return hooks_now;
}

Frame::~Frame() {
  if (many_) std::free(terms);
}

bool Frame::open(Array& own, const Node* node) noexcept {
  array = &own;
  const std::uint32_t held = own.held();
  shape.ndim = static_cast<int>(own.ndim);
  shape.size = size = own.size;
  for (int d = 0; d < shape.ndim; ++d) shape.dims[d] = own.dims()[d];
  step = own.data ? 1 : 0;
  if (held > kFew) {
    terms = static_cast<ArrayTerm*>(std::malloc(held * sizeof(ArrayTerm)));
    if (!terms) return false;
    many_ = true;
  } else {
    terms = reinterpret_cast<ArrayTerm*>(few_);
  }
  if (node) {
    number_ = node->data;
    gradient_ = node->grad;
    gz = &gradient_;
    if (own.data) {
      if (!grad_buffer(own)) return false;
      gz = own.grad->values();
    }
  }
  data_ = own.data;
  grad_ = own.grad;
  z = data_ ? data_->values() : &number_;
  for (; count < held; ++count) {
    ArrayTerm& term = *new (terms + count) ArrayTerm{};
    term.node = own.operands()[count];
    term.number = term.node->data;
    term.x = &term.number;
    term.g = &term.gradient;
    Array* operand = array_of(term.node);
    if (!operand) continue;
    term.array = operand;
    term.data = operand->data;
    term.x = operand->data->values();
    term.size = operand->size;
    term.step = 1;
    if (!node) continue;
    if (!operand->grad) {
      operand->grad = make_buffer(operand->size);
      if (!operand->grad) {
        abandon();
        return false;
      }
      term.fresh = true;
    } else if (!own_grad(*operand)) {
      abandon();
      return false;
    }
    term.grad = operand->grad;
    term.g = operand->grad->values();
  }
  return true;
}

void Frame::close() noexcept {
  for (std::uint32_t i = 0; i < count; ++i) {
    ArrayTerm& term = terms[i];
    if (term.array) continue;
    term.node->grad += term.gradient;
    term.node->flags &= static_cast<Flags>(~kGradInt);
  }
}

void Frame::abandon() noexcept {
  for (std::uint32_t i = 0; i < count; ++i) {
    Array* operand = terms[i].fresh ? array_of(terms[i].node) : nullptr;
    if (!operand || operand->grad != terms[i].grad) continue;
    operand->grad = nullptr;
    disown(terms[i].grad);
  }
}

void Frame::hold(Arena& arena) noexcept {
  ++array->at_work;
  const auto keep = [](Buffer* buffer, bool busy) {
    if (!buffer) return;
    retain(buffer);
    buffer->busy |= busy;
  };
  keep(data_, false);
  keep(grad_, true);
  for (std::uint32_t i = 0; i < count; ++i) {
    arena.hold(terms[i].node);
    if (terms[i].array) ++terms[i].array->at_work;
    keep(terms[i].data, false);
    keep(terms[i].grad, true);
  }
}

void Frame::let_go(Arena& arena) noexcept {
  const auto leave = [](Buffer* buffer) {
    if (!buffer) return;
    buffer->busy = false;
    release(buffer);
  };
  for (std::uint32_t i = 0; i < count; ++i) {
    leave(terms[i].data);
    leave(terms[i].grad);
  }
  leave(data_);
  leave(grad_);
  const auto end_work = [](Array* at_work) {
    if (at_work && --at_work->at_work == 0 && at_work->orphaned) free_array(at_work);
  };
  for (std::uint32_t i = 0; i < count; ++i) end_work(terms[i].array);
  end_work(array);
  for (std::uint32_t i = 0; i < count; ++i) arena.let_go(terms[i].node);
}

bool compute_array(Arena& arena, Array& array, double* number) noexcept {
  if (!large(array) && compute_quickly(array)) return true;
  Frame frame;
  if (!frame.open(array, nullptr)) return false;
  const bool aside_now = hooks_now.begin && large(array);
  const bool fine = aside_now ? aside(arena, frame, [&] { return forward_array(frame); }) : forward_array(frame);
  if (!array.data) *number = *frame.z;
  if (aside_now) frame.let_go(arena);
  return fine;
}

bool wants_pause(const Node* node) noexcept {
  return hooks_now.begin && (large(*node->array) || (paused_rules && touches_busy(node)));
}

bool apply_array_rule(Node* node, Arena* pausing) noexcept {
  while (pausing && paused_rules && touches_busy(node)) wait_for_another();
  const bool is_large = large(*node->array);
  if (!is_large) {
    const Quick outcome = apply_quickly(node);
    if (outcome != Quick::declined) return outcome == Quick::done;
  }
  Frame frame;
  if (!frame.open(*node->array, node)) return false;
  const bool aside_now = pausing && hooks_now.begin && is_large;
  const bool fine = aside_now ? aside(*pausing, frame, [&] { return backward_array(frame); }) : backward_array(frame);
  if (fine) {
    frame.close();
  } else {
    frame.abandon();
  }
  if (aside_now) finish(*pausing, frame);
  return fine;
}

}  // namespace tapegrad
