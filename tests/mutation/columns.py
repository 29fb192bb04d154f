"""The mutations of what runs programs for columns of lanes: rows (file, what is broken, old, new) for compiled.py, each
of which the core's tests must see."""

COLUMNS = "csrc/core/replay/columns.cpp"

ROWS: list[tuple[str, str, str, str]] = [
    # ---- columns in place or copied
    (COLUMNS, "sums of one half", "lanes[i] += lanes[i + half];", "lanes[i] = lanes[i + half];"),
    (
        COLUMNS,
        "sums without the last step",
        "for (std::size_t half = count / 2; half; half /= 2)",
        "for (std::size_t half = count / 2; half > 1; half /= 2)",
    ),
    (
        COLUMNS,
        "copied ones before those in place",
        "if (direct) std::swap(all[in_place++], all.back());",
        "if (direct) ++in_place;",
    ),
    (COLUMNS, "columns of the run before", "w.in.clear();\n  w.out.clear();", ""),
    (COLUMNS, "gradients of the run before", "w.gradients.clear();", ""),
    (COLUMNS, "memory of the run before", "w.place_own();\n  w.in", "w.in"),
    (
        COLUMNS,
        "inputs in place at the first chunk",
        "const_cast<double*>(in.all[k].data) + at;",
        "const_cast<double*>(in.all[k].data);",
    ),
    (COLUMNS, "outputs in place at the first chunk", "= columns->all[k].data + at;", "= columns->all[k].data;"),
    (
        COLUMNS,
        "outputs not in place",
        "for (const Columns<double>* columns : {&out, &gradients})\n      for (std::size_t k",
        "for (const Columns<double>* columns : {&gradients})\n      for (std::size_t k",
    ),
    (
        COLUMNS,
        "gradients not in place",
        "for (const Columns<double>* columns : {&out, &gradients})\n      for (std::size_t k",
        "for (const Columns<double>* columns : {&out})\n      for (std::size_t k",
    ),
    (COLUMNS, "constants left out", "worker->spread(k, constants_[k], chunk_);", ""),
    (COLUMNS, "no number 1", "worker->spread(slots_ - 1, 1.0, chunk_);", ""),
    (
        COLUMNS,
        "parameters of the run before",
        "w.spread(param_base_ + k, run.params[k], chunk_);",
        "if (run.threads == 1) w.spread(param_base_ + k, run.params[k], chunk_);",
    ),
    (COLUMNS, "the first parameter for all", "run.params[k], chunk_);", "run.params[0], chunk_);"),
    (COLUMNS, "inputs with strides in place", "run.input_strides[k] == 1 && starts_line", "starts_line"),
    (COLUMNS, "outputs in place that nothing writes", "written_forward_[outputs_[k]] && !taken", "!taken"),
    (COLUMNS, "outputs in one place twice", " && !taken[outputs_[k]]);", ");"),
    (COLUMNS, "gradients that nobody wants", "if (!run.input_gradients[k]) continue;", ""),
    (COLUMNS, "gradients with strides in place", "run.gradient_strides[k] == 1 && written", "written"),
    (COLUMNS, "gradients in place that nothing writes", " && written_backward_[slot]);", ");"),
    (COLUMNS, "no seed", "w.spread(seed_, run.seed, chunk_);", ""),
    (COLUMNS, "the seed is one", "w.spread(seed_, run.seed, chunk_);", "w.spread(seed_, 1.0, chunk_);"),
    (COLUMNS, "the seed of a parameter lost", "w.own[seed_][i] += run.seed;", ";"),
    (COLUMNS, "the seed of a parameter replaces", "w.own[seed_][i] += run.seed;", "w.own[seed_][i] = run.seed;"),
    # ---- chunks
    (
        COLUMNS,
        "short chunks read in place",
        ": kernels.read(w.in.all.data(), w.in.all.size(), at, count, m);",
        ": kernels.read(w.in.copied(), w.in.copied_count(), at, count, m);",
    ),
    (
        COLUMNS,
        "short chunks written in place",
        ": kernels.write(columns.all.data(), columns.all.size(), at, count, m);",
        ": kernels.write(columns.copied(), columns.copied_count(), at, count, m);",
    ),
    (COLUMNS, "outputs not written", "  write(w.out);", ""),
    (COLUMNS, "gradients not written", "  write(w.gradients);", ""),
    (
        COLUMNS,
        "guards past the last lane",
        "for (std::size_t i = 0; i < count; ++i) {\n      if (guards_",
        "for (std::size_t i = 0; i < m.lanes; ++i) {\n      if (guards_",
    ),
    (COLUMNS, "failures counted in a chunk", "guards->first[k] = at + i;", "guards->first[k] = i;"),
    (COLUMNS, "the last failure is the first", "if (!guards->failures[k]++) guards", "++guards->failures[k], guards"),
    (COLUMNS, "lanes past the last count", "sums && count < m.lanes && k < params_; ++k)", "false; ++k)"),
    (
        COLUMNS,
        "lanes past the last count double",
        "if (sums && count < m.lanes) w.kept.assign(total, total + params_ * chunk_);",
        "if (sums && count < m.lanes) w.kept.assign(params_ * chunk_, 1.0);",
    ),
    (COLUMNS, "old sums stay", "if (sums) std::fill(total, total + params_ * chunk_, 0.0);", ""),
    (
        COLUMNS,
        "old gradients stay",
        "if (sums) std::fill(run.param_gradients, run.param_gradients + params_, 0.0);",
        "",
    ),
    (COLUMNS, "lanes before the first chunk lost", "run_chunk(run, w, 0, first, found);", ""),
    (
        COLUMNS,
        "the first chunk begins at 0",
        "std::min(run.lanes, first + group * lanes_a_group);",
        "std::min(run.lanes, group * lanes_a_group);",
    ),
    (
        COLUMNS,
        "groups past the end",
        "const std::size_t end = std::min(run.lanes, at + lanes_a_group);",
        "const std::size_t end = at + lanes_a_group;",
    ),
    (
        COLUMNS,
        "short chunks are whole",
        "const std::size_t count = std::min(chunk_, end - at);",
        "const std::size_t count = chunk_;",
    ),
    (COLUMNS, "short chunks in place", "count == chunk_ ? w.place(at) : w.place_own();", "w.place(at);"),
    (
        COLUMNS,
        "nothing in place after a short chunk",
        "count == chunk_ ? w.place(at) : w.place_own();",
        "w.place_own();",
    ),
    (COLUMNS, "sums of the first parameter", "sum_of(total + k * chunk_, chunk_);", "sum_of(total, chunk_);"),
    (
        COLUMNS,
        "sums of a short chunk",
        "sum_of(total + k * chunk_, chunk_);",
        "sum_of(total + k * chunk_, chunk_ / 2);",
    ),
    (COLUMNS, "runs go on when they are told to stop", "if (stop.now(w.asks)) return;", ""),
    (COLUMNS, "given up unsaid", "guards->interrupted = stop.said();", ""),
]

# Those that compute the same, or as much as anybody is promised, with the reason.
EQUIVALENT: list[tuple[str, str, str, str, str]] = [
    (
        COLUMNS,
        "columns in place wherever they lie",
        "run.input_strides[k] == 1 && starts_line(run.inputs[k] + first));",
        "run.input_strides[k] == 1);",
        "loads need no alignment; they are only faster with it",
    ),
    (
        COLUMNS,
        "no short chunk first",
        "first = before_line(run.inputs[found - run.input_strides]);",
        "first = 0;",
        "which lanes are together matters to sums only, which have no such chunk",
    ),
    (
        COLUMNS,
        "written slots overlooked",
        "k <= layouts[w[0]].writes; ++k)",
        "k < layouts[w[0]].writes; ++k)",
        "what is not in place is copied",
    ),
    (
        COLUMNS,
        "forward steps write backward",
        "(backward ? written_backward_ : written_forward_)",
        "written_backward_",
        "what is not in place is copied",
    ),
]
