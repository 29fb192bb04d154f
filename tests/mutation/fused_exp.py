"""The mutations of the exponentials, logarithms and powers in fused steps: rows (file, what is broken, old, new) for
compiled.py, each of which the core's tests must see."""

EXP = "csrc/core/replay/fused_exp.hpp"
EXP4 = "csrc/core/replay/fused_exp4.hpp"
POWERS = "csrc/core/replay/powers.hpp"

ROWS: list[tuple[str, str, str, str]] = [
    # ---- e^x of one number
    (
        EXP,
        "rounded to even steps",
        "kRound = 0x1.8p52, kPerStep = 0x1.71547652b82fep+7",
        "kRound = 0x1.8p53, kPerStep = 0x1.71547652b82fep+7",
    ),
    (EXP, "steps per unit", "kPerStep = 0x1.71547652b82fep+7;", "kPerStep = 0x1.71647652b82fep+7;"),
    (EXP, "length of a step", "kStepHigh = 0x1.62e42fefa0000p-8", "kStepHigh = 0x1.62e42fefb0000p-8"),
    (EXP, "rest of the length of a step", "kStepLow = 0x1.cf79abc9e3b3ap-47", "kStepLow = 0x1.cf89abc9e3b3ap-47"),
    (
        EXP,
        "no rest of the length of a step",
        "mul_add(-k, kStepLow, mul_add(-k, kStepHigh, x));",
        "mul_add(-k, kStepHigh, x);",
    ),
    (EXP, "the next power of the table", "kPowers.row[bits % kSteps]", "kPowers.row[(bits + 1) % kSteps]"),
    (EXP, "no powers of two", "std::bit_cast<double>(power.bits + (bits << 45))", "std::bit_cast<double>(power.bits)"),
    (
        EXP,
        "what is missing of the power lost",
        "{scale, mul_add(square, tail, r + power.missing)}",
        "{scale, mul_add(square, tail, r)}",
    ),
    (
        EXP,
        "missing in the last power twice",
        "row[i] = {power.low / power.high,",
        "row[i] = {2 * power.low / power.high,",
    ),
    (EXP, "step of the table", "0x1.0163da9fb3335p+0, 0x1.b61299ab8cdb7p-54}", "0x1.0163da9fb3335p+0, 0.0}"),
    (EXP, "first coefficient", "0x1.fffffffffff58p-2", "0x1.ffffffff0ff58p-2"),
    (EXP, "second coefficient", "0x1.5555555555525p-3", "0x1.5555455555525p-3"),
    (EXP, "third coefficient", "0x1.55555ace2772ep-5", "0x1.55655ace2772ep-5"),
    (EXP, "fourth coefficient", "0x1.111114318920ap-7", "0x1.151114318920ap-7"),
    (EXP, "numbers that overflow", "kMostExp = 708.0;", "kMostExp = 1e6;"),
    (EXP, "range not looked at", "*open |= !(__builtin_fabs(x) < kMostExp);", ""),
    (EXP, "nothing is halfway", "if (exact) *open |= !is_nearest(", "if (false) *open |= !is_nearest("),
    (EXP, "halfway is nearest", "kNearest = 0.465 * 0x1p-52;", "kNearest = 0.55 * 0x1p-52;"),
    (
        EXP,
        "what is missing of the sum lost",
        "is_nearest(y, mul_add(e.scale, e.rest, e.scale - y))",
        "is_nearest(y, 0.0)",
    ),
    (
        EXP,
        "sum rounded twice",
        "const double y = mul_add(e.scale, e.rest, e.scale);",
        "const double y = e.scale * e.rest + e.scale * 1.0000000000000002;",
    ),
    (EXP, "if_above: below", "Doubles{a, a} > Doubles{b, b}", "Doubles{a, a} < Doubles{b, b}"),
    # ---- log(1 + y)
    (EXP, "log1p: denominator", "const double s = y / (2.0 + y)", "const double s = y / (2.0 - y)"),
    (EXP, "log1p: sign", "return y - s * (y - z * q);", "return y - s * (y + z * q);"),
    (EXP, "log1p: second half", "return y - s * (y - z * q);", "return y - s * y;"),
    *[
        (EXP, f"log1p: coefficient {k}", old, new)
        for k, old, new in (
            (1, "0x1.5555555555555p-1", "0x1.5555555551555p-1"),
            (2, "0x1.999999999a3ddp-2", "0x1.999999099a3ddp-2"),
            (3, "0x1.24924923d44c5p-2", "0x1.24924023d44c5p-2"),
            (4, "0x1.c71c72714339ep-3", "0x1.c71072714339ep-3"),
            (5, "0x1.745cf0b0de947p-3", "0x1.740cf0b0de947p-3"),
            (6, "0x1.3b18b294ed2d4p-3", "0x1.3a18b294ed2d4p-3"),
            (7, "0x1.10ac75d966ac4p-3", "0x1.00ac75d966ac4p-3"),
            (8, "0x1.eb905ebe0e5e9p-4", "0x1.cb905ebe0e5e9p-4"),
            (9, "0x1.687a6d5b6907fp-4", "0x1.287a6d5b6907fp-4"),
            (10, "0x1.4b0a27f89e5b8p-3", "0x1.0b0a27f89e5b8p-3"),
        )
    ],
    # ---- powers of sums, where products are fused
    (POWERS, "nothing is missing of a product", "{a * b, __builtin_fma(a, b, -(a * b))}", "{a * b, 0.0}"),
    (POWERS, "twice a product", "{a * b, __builtin_fma(a, b, -(a * b))}", "{2 * a * b, __builtin_fma(a, b, -(a * b))}"),
    (POWERS, "any power is settled", "return std::fabs(power.low) < scale * (0.45 * 0x1p-52);", "return true;"),
    # ---- e^x of four numbers
    *[
        (EXP4, f"four: power {k}", old, new)
        for k, old, new in (
            (1, "0x1.172b83c7d517bp+0", "0x1.172b83c7d517cp+0"),
            (2, "0x1.306fe0a31b715p+0", "0x1.306fe0a31b716p+0"),
            (3, "0x1.4bfdad5362a27p+0", "0x1.4bfdad5362a28p+0"),
            (4, "0x1.6a09e667f3bcdp+0", "0x1.6a09e667f3bcep+0"),
            (5, "0x1.8ace5422aa0dbp+0", "0x1.8ace5422aa0dcp+0"),
            (6, "0x1.ae89f995ad3adp+0", "0x1.ae89f995ad3aep+0"),
            (7, "0x1.d5818dcfba487p+0", "0x1.d5818dcfba488p+0"),
        )
    ],
    *[
        (EXP4, f"four: what is missing in power {k}", old, new)
        for k, old, new in (
            (1, "-0x1.01b15eaa59348p-55", "0x1.01b15eaa59348p-55"),
            (2, "0x1.34d754db0abb6p-55", "-0x1.34d754db0abb6p-55"),
            (3, "0x1.690cebb7aafb0p-56", "-0x1.690cebb7aafb0p-56"),
            (4, "-0x1.3b3efbf5e2228p-54", "0x1.3b3efbf5e2228p-54"),
            (5, "0x1.db72fc1f0eab4p-55", "-0x1.db72fc1f0eab4p-55"),
            (6, "0x1.c1a7792cb3387p-55", "-0x1.c1a7792cb3387p-55"),
            (7, "0x1.4a385a63d07a7p-56", "-0x1.4a385a63d07a7p-56"),
        )
    ],
    (EXP4, "four: steps per unit", "kPerStep = 0x1.71547652b82fep+3;", "kPerStep = 0x1.71647652b82fep+3;"),
    (EXP4, "four: length of a step", "kStepHigh = 0x1.62e42fefa2000p-4", "kStepHigh = 0x1.62e42fefa4000p-4"),
    (
        EXP4,
        "four: rest of the length of a step",
        "kStepLow = 0x1.9ef35793c7673p-44",
        "kStepLow = 0x1.9ff35793c7673p-44",
    ),
    (
        EXP4,
        "four: range not looked at",
        "_mm256_cmp_pd_mask(magnitude, four(scalar::kMostExp), _CMP_LT_OQ)",
        "_mm256_cmp_pd_mask(magnitude, four(1e6), _CMP_LT_OQ)",
    ),
    (EXP4, "four: large negative numbers are moderate", "_mm256_andnot_pd(four(-0.0), x)", "x"),
    (EXP4, "four: powers of two", "_mm256_mul_pd(k, four(0.125))", "_mm256_mul_pd(k, four(0.25))"),
    *[
        (EXP4, f"four: coefficient {k}", old, new)
        for k, old, new in (
            (2, "four(0.5))", "four(0.50000000000001))"),
            (3, "0x1.555555555559dp-3", "0x1.555555555059dp-3"),
            (4, "0x1.5555555555572p-5", "0x1.5555555505572p-5"),
            (5, "0x1.1111110c65418p-7", "0x1.1111111c65418p-7"),
            (6, "0x1.6c16c1685a1c8p-10", "0x1.6c17c1685a1c8p-10"),
            (7, "0x1.a01eddd492b8ep-13", "0x1.a11eddd492b8ep-13"),
            (8, "0x1.a01de4fc5f772p-16", "0x1.b01de4fc5f772p-16"),
        )
    ],
    (
        EXP4,
        "four, loose: nothing left to the library",
        "*open = static_cast<unsigned>(~moderate) & kFourLanes;",
        "*open = 0;",
    ),
    (EXP4, "four, loose: without r", "_mm256_fmadd_pd(scale, r, scale));", "scale);"),
    (
        EXP4,
        "four: rest of r lost",
        "_mm256_add_pd(r_low, _mm256_fmadd_pd(scale_low, r, scale_low))",
        "_mm256_fmadd_pd(scale_low, r, scale_low)",
    ),
    (EXP4, "four: rest of the power lost", "_mm256_add_pd(r_low, _mm256_fmadd_pd(scale_low, r, scale_low))", "r_low"),
    (EXP4, "four: rest of the power not multiplied", "_mm256_fmadd_pd(scale_low, r, scale_low))", "scale_low)"),
    (
        EXP4,
        "four: rest of the sum lost",
        "rest_low = _mm256_sub_pd(more, _mm256_sub_pd(rest, r))",
        "rest_low = _mm256_setzero_pd()",
    ),
    (
        EXP4,
        "four: nothing is halfway",
        "_mm256_mul_pd(power, four(scalar::kNearest)), _CMP_LT_OQ)",
        "_mm256_mul_pd(power, four(1.0)), _CMP_LT_OQ)",
    ),
    (EXP4, "four: what is missing in one sum only", "_mm256_andnot_pd(four(-0.0), missing)", "missing"),
    (
        EXP4,
        "four: beyond the range is settled",
        "_mm256_mask_cmp_pd_mask(moderate, ",
        "_mm256_mask_cmp_pd_mask(kFourLanes, ",
    ),
    (
        EXP4,
        "four, exact: nothing left to the library",
        "*open = static_cast<unsigned>(~settled) & kFourLanes;",
        "*open = 0;",
    ),
]

# Those that compute the same, or as much as anybody is promised, with the reason.
EQUIVALENT: list[tuple[str, str, str, str, str]] = [
    (
        EXP,
        "NaN is moderate",
        "!(__builtin_fabs(x) < kMostExp);",
        "__builtin_fabs(x) >= kMostExp;",
        "NaN is never nearest, and comes out as NaN",
    ),
    (
        EXP,
        "if_above: equal is above",
        "Doubles{a, a} > Doubles{b, b}",
        "Doubles{a, a} >= Doubles{b, b}",
        "where the two are equal, so are both answers",
    ),
    (
        EXP4,
        "four: NaN is moderate",
        "four(scalar::kMostExp), _CMP_LT_OQ)",
        "four(scalar::kMostExp), _CMP_NGE_UQ)",
        "NaN is never nearest, and comes out as NaN",
    ),
]
