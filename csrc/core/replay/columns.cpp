// columns.cpp: lanes in groups for threads, groups in chunks.
#include "core/replay/columns.hpp"

#include <algorithm>
#include <cstring>

#include "core/lanes/lanes.hpp"
#include "core/replay/words.hpp"

namespace tapegrad {

namespace {

constexpr std::size_t kMostSlots = 160;         // 40 KiB of the smallest chunks; what is in use at one time is less
constexpr std::size_t kChunkBytes = 20 * 1024;  // of larger chunks: they share the first-level cache with the arrays
constexpr std::size_t kMostChunk = 8 * kGrain;
constexpr std::size_t kMostGroups = 64;  // partial sums of the gradients, whatever the number of threads
constexpr std::size_t kSpareWorkers = 8;
constexpr std::size_t kAskEvery = 32768;    // lanes between two looks at LaneRun::interrupt
constexpr std::size_t kFewestAligned = 16;  // chunks from which on a short one at the start pays
constexpr std::size_t kLine = 64 / sizeof(double);

const ChunkKernels& chunk_kernels() {
#if defined(__x86_64__)
  for (const ChunkKernels* k : {&kChunksAvx512, &kChunksAvx2})
    if (!std::strcmp(k->name, lanes::instruction_set())) return *k;
#endif
  return kChunksBaseline;
}

// The sum over a chunk, by halves.
double sum_of(double* lanes, std::size_t count) {
  for (std::size_t half = count / 2; half; half /= 2)
    for (std::size_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}

// How many lanes come before the first at the start of a cache line; 0 where no lane is.
std::size_t before_line(const double* p) {
  const auto address = reinterpret_cast<std::uintptr_t>(p);
  return address % sizeof(double) ? 0 : (kLine - address / sizeof(double) % kLine) % kLine;
}

bool starts_line(const double* p) {
  return reinterpret_cast<std::uintptr_t>(p) % (kLine * sizeof(double)) == 0;
}

// Columns: those used in place first, then those copied.
template <typename Number>
struct Columns {
  std::vector<ColumnOf<Number>> all;
  std::size_t in_place = 0;

  void clear() {
    all.clear();
    in_place = 0;
  }
  void add(const ColumnOf<Number>& column, bool direct) {
    all.push_back(column);
    if (direct) std::swap(all[in_place++], all.back());
  }
  const ColumnOf<Number>* copied() const { return all.data() + in_place; }
  std::size_t copied_count() const { return all.size() - in_place; }
};

}  // namespace

// The memory of one thread.
struct ColumnCode::Worker {
  std::vector<double> room;
  std::vector<double*> own, slots;  // where each slot lies: its place in the room; in place where a column is
  Columns<const double> in;
  Columns<double> out, gradients;
  std::vector<const double*> ahead;  // see ChunkKernels; of a chunk that starts at lane 0
  bool fetches = false;              // whether that is of any array
  std::vector<double> kept;
  const ChunkKernels* kernels = nullptr;
  LaneStop* stop = nullptr;  // of the run that it works for
  bool asks = false;         // the thread that called

  Worker(std::size_t slot_count, std::size_t chunk, std::size_t runs)
      : room(slot_count * chunk + kLine, 0.0), own(slot_count), slots(slot_count), ahead((runs + 1) * kAheadOfRun) {
    void* start = room.data();
    std::size_t bytes = room.size() * sizeof(double);
    auto* const m = static_cast<double*>(std::align(64, slot_count * chunk * sizeof(double), start, bytes));
    for (std::size_t s = 0; s < slot_count; ++s) slots[s] = own[s] = m + s * chunk;
  }
  void spread(std::size_t slot, double x, std::size_t chunk) { std::fill_n(own[slot], chunk, x); }

  // The slots of columns in place are at lane `at` of their arrays, or all slots in their own memory.
  void place(std::size_t at) {
    // Nothing writes to the slots of inputs.
    for (std::size_t k = 0; k < in.in_place; ++k) slots[in.all[k].slot] = const_cast<double*>(in.all[k].data) + at;
    for (const Columns<double>* columns : {&out, &gradients})
      for (std::size_t k = 0; k < columns->in_place; ++k) slots[columns->all[k].slot] = columns->all[k].data + at;
  }
  void place_own() { slots = own; }

  // The lines of a chunk at the start of the arrays, as many as there are runs to fetch them with; then those lines
  // again.
  void look_ahead(std::size_t chunk) {
    std::size_t lines = 0;
    const auto add = [&](const double* data, std::size_t stride) {
      if (stride != 1) return;
      for (std::size_t i = 0; i < chunk && lines < ahead.size(); i += kLine) ahead[lines++] = data + i;
    };
    for (const InColumn& c : in.all) add(c.data, c.stride);
    for (const Columns<double>* columns : {&out, &gradients})
      for (const OutColumn& c : columns->all) add(c.data, c.stride);
    fetches = lines != 0;
    if (!fetches) ahead[lines++] = room.data();
    for (std::size_t k = lines; k < ahead.size(); ++k) ahead[k] = ahead[k - lines];
  }
};

ColumnCode::~ColumnCode() = default;

bool ColumnCode::suits(const Lowered& l) {
  return l.params <= kMostParams && l.slots <= kMostSlots;
}

ColumnCode::ColumnCode(const Lowered& l)
    : forward_(encode_chains(l, Direction::forward, l.slots)),
      backward_(encode_chains(l, Direction::backward, l.slots)),
      constants_(l.constants),
      outputs_(l.outputs),
      written_forward_(l.slots + 1),
      written_backward_(l.slots + 1),
      guards_(l.guards),
      slots_(l.slots + 1),
      params_(l.params),
      inputs_(l.inputs),
      param_base_(l.param_base),
      input_base_(l.input_base),
      param_gradients_(l.param_gradients),
      input_gradients_(l.input_gradients),
      seed_(l.seed) {
  chunk_ = kGrain;
  while (chunk_ < kMostChunk && 2 * chunk_ * slots_ * sizeof(double) <= kChunkBytes) chunk_ *= 2;
  for (const bool backward : {false, true}) {
    const Layout* const layouts = tapegrad::layouts(backward);
    const Stream& stream = l.streams[backward];
    for (const Word step : stream.steps) {
      const Word* const w = &stream.words[step];
      for (Word k = 1; k <= layouts[w[0]].writes; ++k)
        if (w[k] != kNoSlot) (backward ? written_backward_ : written_forward_)[w[k]] = true;
    }
  }
}

std::unique_ptr<ColumnCode::Worker> ColumnCode::take() const {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!spare_.empty()) {
      std::unique_ptr<Worker> worker = std::move(spare_.back());
      spare_.pop_back();
      return worker;
    }
  }
  auto worker = std::make_unique<Worker>(slots_, chunk_, forward_.runs + backward_.runs);
  for (std::size_t k = 0; k < constants_.size(); ++k) worker->spread(k, constants_[k], chunk_);
  worker->spread(slots_ - 1, 1.0, chunk_);
  return worker;
}

void ColumnCode::give_back(std::unique_ptr<Worker> worker) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (spare_.size() < kSpareWorkers) spare_.push_back(std::move(worker));
}

bool ColumnCode::is_param_gradient(Word slot) const {
  return param_gradients_ != kNoSlot && slot >= param_gradients_ && slot < param_gradients_ + params_;
}

// Parameters and columns of this run; whole chunks start `first` lanes after a multiple of their size.
void ColumnCode::prepare(const LaneRun& run, std::size_t first, bool sums, Worker& w) const {
  w.place_own();
  w.in.clear();
  w.out.clear();
  w.gradients.clear();
  for (Word k = 0; k < params_; ++k) w.spread(param_base_ + k, run.params[k], chunk_);
  for (Word k = 0; k < inputs_; ++k)
    w.in.add({run.inputs[k], run.input_strides[k], input_base_ + k},
             run.input_strides[k] == 1 && starts_line(run.inputs[k] + first));
  std::vector<bool> taken(slots_);  // two outputs may be one slot
  for (std::size_t k = 0; run.outputs && k < outputs_.size(); ++k) {
    w.out.add({run.outputs[k], 1, outputs_[k]}, written_forward_[outputs_[k]] && !taken[outputs_[k]]);
    taken[outputs_[k]] = true;
  }
  for (Word k = 0; run.input_gradients && k < inputs_; ++k) {
    if (!run.input_gradients[k]) continue;
    const Word slot = input_gradients_ + k;
    w.gradients.add({run.input_gradients[k], run.gradient_strides[k], slot},
                    run.gradient_strides[k] == 1 && written_backward_[slot]);
  }
  if (seed_ != kNoSlot && !(sums && is_param_gradient(seed_))) w.spread(seed_, run.seed, chunk_);
  w.look_ahead(chunk_);
  if (sums) w.kept.reserve(params_ * chunk_);
}

// Whole chunks are placed by the caller.
void ColumnCode::run_chunk(const LaneRun& run, Worker& w, std::size_t at, std::size_t count, LaneGuards* guards) const {
  const ChunkKernels& kernels = *w.kernels;
  const bool whole = count == chunk_;
  const std::size_t next = w.fetches ? std::min(at + count, run.lanes - 1) : 0;
  const bool sums = run.param_gradients && param_gradients_ != kNoSlot;
  const Chunk m{w.slots.data(), (count + kGrain - 1) / kGrain * kGrain};
  whole ? kernels.read(w.in.copied(), w.in.copied_count(), at, count, m)
        : kernels.read(w.in.all.data(), w.in.all.size(), at, count, m);
  kernels.forward(forward_.words.data(), m, w.ahead.data(), next);
  for (std::size_t k = 0; k < guards_.size(); ++k) {
    const double* const looked_at = w.slots[guards_[k].slot];
    for (std::size_t i = 0; i < count; ++i) {
      if (guards_[k].guard.holds(looked_at[i])) continue;
      if (!guards->failures[k]++) guards->first[k] = at + i;
    }
  }
  const auto write = [&](const Columns<double>& columns) {
    whole ? kernels.write(columns.copied(), columns.copied_count(), at, count, m)
          : kernels.write(columns.all.data(), columns.all.size(), at, count, m);
  };
  write(w.out);
  if ((run.param_gradients || run.input_gradients) && seed_ != kNoSlot) {
    double* const total = sums ? w.own[param_gradients_] : nullptr;
    if (sums && count < m.lanes) w.kept.assign(total, total + params_ * chunk_);
    if (sums && is_param_gradient(seed_))  // else it is there since prepare()
      for (std::size_t i = 0; i < m.lanes; ++i) w.own[seed_][i] += run.seed;
    kernels.backward(backward_.words.data(), m, w.ahead.data() + forward_.runs * kAheadOfRun, next);
    for (std::size_t k = 0; sums && count < m.lanes && k < params_; ++k)  // the lanes past the end do not count
      std::copy(&w.kept[k * chunk_ + count], &w.kept[k * chunk_] + m.lanes, total + k * chunk_ + count);
  }
  write(w.gradients);
}

void ColumnCode::run(const LaneRun& run, LaneGuards* guards) const {
  guards->clear(guards_.size());
  const bool sums = run.param_gradients && param_gradients_ != kNoSlot;
  if (sums) std::fill(run.param_gradients, run.param_gradients + params_, 0.0);
  if (!run.lanes) return;
  // Where no sums depend on which lanes are together, whole chunks start where lines of the first array do.
  std::size_t first = 0;
  if (!sums && run.lanes >= kFewestAligned * chunk_) {
    const std::size_t* const found = std::find(run.input_strides, run.input_strides + inputs_, std::size_t{1});
    if (found != run.input_strides + inputs_) first = before_line(run.inputs[found - run.input_strides]);
  }
  const std::size_t chunks = (run.lanes - first + chunk_ - 1) / chunk_;
  const std::size_t groups = std::min(chunks, kMostGroups);
  const std::size_t lanes_a_group = (chunks + groups - 1) / groups * chunk_;
  const std::size_t threads = run.threads_for(groups);

  const ChunkKernels& kernels = chunk_kernels();
  LaneStop stop(run);
  std::vector<std::unique_ptr<Worker>> workers;
  for (std::size_t t = 0; t < threads; ++t) {
    std::unique_ptr<Worker> w = take();
    prepare(run, first, sums, *w);
    w->kernels = &kernels;
    w->stop = &stop;
    w->asks = t == 0;
    workers.push_back(std::move(w));
  }
  run_groups(run, groups, threads, sums ? params_ : 0, guards,
             [&](std::size_t thread, std::size_t group, double* sum, LaneGuards* found) {
               Worker& w = *workers[thread];
               std::size_t at = std::min(run.lanes, first + group * lanes_a_group);
               const std::size_t end = std::min(run.lanes, at + lanes_a_group);
               double* const total = sums ? w.own[param_gradients_] : nullptr;
               if (sums) std::fill(total, total + params_ * chunk_, 0.0);
               if (!group && first) {
                 w.place_own();
                 run_chunk(run, w, 0, first, found);
               }
               for (std::size_t since = kAskEvery; at < end; at += chunk_, since += chunk_) {
                 if (since >= kAskEvery) {
                   since = 0;
                   if (stop.now(w.asks)) return;
                 }
                 const std::size_t count = std::min(chunk_, end - at);
                 count == chunk_ ? w.place(at) : w.place_own();
                 run_chunk(run, w, at, count, found);
               }
               for (std::size_t k = 0; sums && k < params_; ++k) sum[k] = sum_of(total + k * chunk_, chunk_);
             });
  for (std::unique_ptr<Worker>& w : workers) give_back(std::move(w));
  guards->interrupted = stop.said();
}

}  // namespace tapegrad
