"""The mutations of the chains that column code keeps in registers, and of their kernels: rows (file, what is broken,
old, new) for compiled.py, each of which the core's tests must see."""

CHAINS = "csrc/core/replay/chains.cpp"
CHUNKS = "csrc/core/replay/chunks.inc"

ROWS: list[tuple[str, str, str, str]] = [
    # ---- which numbers are read later
    (CHAINS, "nothing is read", "for_each_read(s, layout, [&](Word slot) { live[slot] = true; });", ""),
    (CHAINS, "values that derivatives read", "go_before({w[0], w + 1}, layouts[w[0]]);", ""),
    (CHAINS, "outputs unread", "for (const Word slot : l_.outputs) live[slot] = true;", ""),
    (CHAINS, "guarded values unread", "for (const CheckedSlot& g : l_.guards) live[g.slot] = true;", ""),
    (CHAINS, "nothing lives on", "needed_[n - 1] = live[slot] &&", "needed_[n - 1] = false &&"),
    # ---- links
    (CHAINS, "sums that add as links", "return !s.adds() && (s.terms() > 1", "return (s.terms() > 1"),
    (CHAINS, "squares of the number so far", "if (places != 1) return false;", "if (places < 1) return false;"),
    (CHAINS, "operands as gradients", "if (!s.is_sum()) return s.words[1] == before;", "if (!s.is_sum()) return true;"),
    (CHAINS, "sums in any order", "(backward_ ? s.terms() : std::min<Word>(s.terms(), 2))", "s.terms()"),
    (
        CHAINS,
        "steps that need others than the last",
        "follows(at(end), at(end - 1).words[0])",
        "follows(at(end), at(n).words[0])",
    ),
    (
        CHAINS,
        "the second factor first",
        "start.is_sum() ? start.x(0)",
        "start.is_sum() && start.y(0) != kNoSlot ? start.y(0) : start.is_sum() ? start.x(start.terms() - 1)",
    ),
    (
        CHAINS,
        "last number not stored",
        "const bool stores = n + 1 == end || needed_[n];",
        "const bool stores = needed_[n];",
    ),
    (
        CHAINS,
        "only the last number stored",
        "const bool stores = n + 1 == end || needed_[n];",
        "const bool stores = n + 1 == end;",
    ),
    (
        CHAINS,
        "operand and value swapped",
        "{s.words[2], s.words[3], kNoSlot, s.words[0]}",
        "{s.words[3], s.words[2], kNoSlot, s.words[0]}",
    ),
    (CHAINS, "derivatives not stored", "kDerivative + (stores ? 0 : kNoStore)", "kDerivative + kNoStore"),
    (CHAINS, "derivatives of the first", "put_link(s.code() + kDerivative", "put_link(start.code() + kDerivative"),
    (CHAINS, "the first number in all links", "before = s.words[0];\n    }", "}"),
    (CHAINS, "own term twice", "Word k = own == 0 ? 1 : 0;", "Word k = 0;"),
    (CHAINS, "own term not left out", "k += k + 1 == own ? 2 : 1;", "k += 1;"),
    (CHAINS, "sums stored before they are whole", "k >= s.terms() && stores ? kStoresZ : 0", "stores ? kStoresZ : 0"),
    (CHAINS, "sums not stored", "k >= s.terms() && stores ? kStoresZ : 0", "0"),
    (CHAINS, "own factors lost", "if (y != kNoSlot) what |= kTimesY;", ""),
    (CHAINS, "other terms lost", "if (p != kNoSlot) what |= kPlusP;", ""),
    (CHAINS, "other factors lost", "if (q != kNoSlot) what |= kTimesQ;", ""),
    (
        CHAINS,
        "own number as its factor",
        "put(s.x(own) == before ? s.y(own) : s.x(own));",
        "put(s.y(own) == kNoSlot ? kNoSlot : s.x(own));",
    ),
    (CHAINS, "only two terms", "while (k < s.terms()) put(kNoSlot);", ""),
    # ---- links and sums in the interpreter
    (CHUNKS, "chains: forward products fused", "h[kChain] = chain<false>;", "h[kChain] = chain<true>;"),
    (CHUNKS, "sums: forward products fused", "add_dots<false>(h,", "add_dots<true>(h,"),
    (CHUNKS, "chains: no number to start from", "x[j] = load(from + i + j * kWidth);", "x[j] = 1.0;"),
    (CHUNKS, "links: products are sums", "x[j] = x[j] * load(y + k);", "x[j] = x[j] + load(y + k);"),
    (CHUNKS, "links: terms subtracted", "x[j] = x[j] + load(p + k);", "x[j] = x[j] - load(p + k);"),
    (
        CHUNKS,
        "links: fused factor and term swapped",
        "x[j] = mul_add(x[j], load(y + k), load(p + k));",
        "x[j] = mul_add(x[j], load(p + k), load(y + k));",
    ),
    (
        CHUNKS,
        "links: fused products replace",
        "mul_add(load(p + k), load(q + k), x[j]) :",
        "load(p + k) * load(q + k) :",
    ),
    (CHUNKS, "links: products replace", ": x[j] + load(p + k) * load(q + k);", ": load(p + k) * load(q + k);"),
    (CHUNKS, "links: not stored", "store(z + j * kWidth, x[j]);\n  }\n}", ";\n  }\n}"),
    (
        CHUNKS,
        "links: derivatives of the value",
        "load(x + j * kWidth), 7.0, load(z + j * kWidth)) * g[j];",
        "load(z + j * kWidth), 7.0, load(x + j * kWidth)) * g[j];",
    ),
    (CHUNKS, "links: derivatives without the gradient", "load(z + j * kWidth)) * g[j];", "load(z + j * kWidth));"),
    (CHUNKS, "links: derivatives stored where they must not", "if (w[0] & kNoStore) continue;", ""),
    (CHUNKS, "links: derivatives not stored", "if (w[0] & kNoStore) continue;", "continue;"),
    (
        CHUNKS,
        "sums: first term twice",
        "s[j] = first ? a : s[j] + a;",
        "s[j] = s[j] + a;\n            if (first) s[j] = s[j] + a;",
    ),
    (CHUNKS, "sums: what was there lost", "s[j] = adds ? load(z + i + j * kWidth) : Vec(0.0);", "s[j] = Vec(0.0);"),
    # ---- arrays read and written
    (
        CHUNKS,
        "lanes past the last are others",
        "to[i] = from[(i < count ? i : count - 1) * c.stride];",
        "to[i] = i < count ? from[i * c.stride] : 0.0 / 0.0;",
    ),
    (
        CHUNKS,
        "inputs without stride",
        "to[i] = from[(i < count ? i : count - 1) * c.stride];",
        "to[i] = from[i < count ? i : count - 1];",
    ),
    (
        CHUNKS,
        "inputs of the first chunk",
        "const double* const from = c.data + first * c.stride;",
        "const double* const from = c.data;",
    ),
    (CHUNKS, "outputs without stride", "to[i * c.stride] = from[i];", "to[i] = from[i];"),
    (
        CHUNKS,
        "outputs to the first chunk",
        "double* const to = c.data + first * c.stride;",
        "double* const to = c.data;",
    ),
    (
        CHUNKS,
        "outputs past the last lane",
        "for (std::size_t i = 0; i < count; ++i) to",
        "for (std::size_t i = 0; i < m.lanes; ++i) to",
    ),
]

# Those that compute the same, or as much as anybody is promised, with the reason.
EQUIVALENT: list[tuple[str, str, str, str, str]] = [
    (
        CHAINS,
        "only the first gradient read",
        "slot < first + count; ++slot) live",
        "slot < first + 1; ++slot) live",
        "no step reads a leaf's gradient: it ends its chain",
    ),
    (
        CHAINS,
        "gradients of parameters unread",
        "keep(l_.param_gradients, l_.params);",
        "",
        "no step reads a leaf's gradient: it ends its chain",
    ),
    (
        CHAINS,
        "gradients of inputs unread",
        "keep(l_.input_gradients, l_.inputs);",
        "",
        "no step reads a leaf's gradient: it ends its chain",
    ),
    (
        CHAINS,
        "sums that add do not read",
        "Word k = layout.adds ? 0 : layout.writes;",
        "Word k = layout.writes;",
        "a number that a sum adds to is in no chain",
    ),
    (
        CHAINS,
        "written numbers live on",
        "if (s.words[k] != kNoSlot) live[s.words[k]] = false;",
        "",
        "more is stored than is read",
    ),
    (
        CHAINS,
        "numbers that the next step replaces",
        "needed_[n - 1] = live[slot] && std::find(s.words, s.words + layout.writes, slot) == s.words + layout.writes;",
        "needed_[n - 1] = live[slot];",
        "more is stored than is read",
    ),
    (
        CHAINS,
        "runs take what chains begin with",
        " && chain_from(end) == end + 1) ++end;",
        ") ++end;",
        "a step of a run and a link compute the same",
    ),
    (
        CHAINS,
        "all numbers stored",
        "const bool stores = n + 1 == end || needed_[n];",
        "const bool stores = true;",
        "more is stored than is read",
    ),
]
