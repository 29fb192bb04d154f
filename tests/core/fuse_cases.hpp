// fuse_cases.hpp: the cases of test_fuse_cases.cpp.
#pragma once

namespace tapegrad::test {

// Each a line, and lines that are set in: what it is, then for programs that are run exactly, and for those that are
// run loosely, how many steps become how many forward, and backward; then the program. p0 ... p5 are its parameters,
// the last line is its result. Words in capitals are kFusePieces.
inline constexpr const char* kFusePieces[][2] = {
    {"EXPONENTIALS", "a = exp p0; b = exp p1; c = exp p2"},
    {"SUM", "s = sum a b c"},
    {"POWER", "r = powc s -1"},
    {"QUOTIENT", "one = constant 1; r = div one s"},
    {"PRODUCTS", "x = mul a r; y = mul r b; z = mul c r"},
    {"RESULT", "u = mul x p3; v = mul y p4; w = mul z p5; o = sum u v w"},
};
inline constexpr char kFuseCases[] = R"(
softmax by powers | 8>1 11>1 | 8>1 11>1 | EXPONENTIALS; SUM; POWER; PRODUCTS; RESULT
softmax by quotients | 0>0 0>0 | 8>1 11>1 | EXPONENTIALS; SUM; QUOTIENT; PRODUCTS; RESULT
a sum from 0 | 8>1 11>1 | 8>1 11>1 | EXPONENTIALS; zero = constant 0; s = sum zero a b c; POWER; PRODUCTS; RESULT
a sum from 0, with another term | 0>0 0>0 | 7>1 8>1 | a = exp p0; b = exp p1; c = mul p2 p2; zero = constant 0;
    s = sum zero a b c; POWER; PRODUCTS; RESULT
a term that is no exponential | 7>1 8>1 | 7>1 8>1 | a = exp p0; c = exp p2; b = mul p1 p1; SUM; POWER; PRODUCTS; RESULT
terms that are no exponentials | 6>1 5>1 | 6>1 5>1 | a = exp p0; b = mul p1 p1; c = mul p2 p2; SUM; POWER; PRODUCTS;
    RESULT
no exponential among the terms | 0>0 0>0 | 0>0 0>0 | e = exp p3; a = mul p0 p0; b = mul p1 p1; c = mul p2 p2; SUM;
    POWER; PRODUCTS; u = mul x e; v = mul y p4; w = mul z p5; o = sum u v w
five terms, the last ones no exponentials | 10>1 11>1 | 10>1 11>1 | EXPONENTIALS; d = mul p3 p3; e = mul p4 p4;
    s = sum a b c d e; POWER; PRODUCTS; g = mul d r; h = mul e r; u = mul x p3; v = mul y p4; w = mul z p5;
    m = mul g p4; n = mul h p3; o = sum u v w m n
one quotient | 6>1 7>1 | 6>1 7>1 | EXPONENTIALS; SUM; POWER; x = mul a r; u = mul x p3; o = add u p4
one quotient of two terms | 5>1 6>1 | 5>1 6>1 | a = exp p0; b = exp p1; s = add a b; POWER; y = mul b r; o = mul y p3
a quotient of what is used elsewhere | 8>1 8>1 | 8>1 8>1 | EXPONENTIALS; SUM; POWER; PRODUCTS; t = mul b p3;
    u = mul x p3; v = mul y p4; w = mul z p5; o = sum u v w t
no quotient of what is used elsewhere | 7>1 8>1 | 7>1 8>1 | EXPONENTIALS; SUM; POWER; x = mul a r; z = mul c r;
    t = mul b p3; u = mul x p3; w = mul z p5; o = sum u w t
logarithm of a quotient | 6>1 6>1 | 6>1 6>1 | EXPONENTIALS; SUM; POWER; x = mul a r; o = log x
logarithm of the reciprocal | 5>1 0>0 | 5>1 0>0 | EXPONENTIALS; SUM; POWER; o = log r
the reciprocal is used elsewhere | 8>1 0>0 | 8>1 0>0 | EXPONENTIALS; SUM; POWER; PRODUCTS; t = mul r p4; u = mul x p3;
    v = mul y p4; w = mul z p5; o = sum u v w t
the sum is used elsewhere | 8>1 2>1 | 8>1 2>1 | EXPONENTIALS; SUM; POWER; PRODUCTS; t = log s; u = mul x p3;
    v = mul y p4; w = mul z p5; o = sum u v w t
a quotient's gradient is another's | 7>1 10>1 | 7>1 10>1 | EXPONENTIALS; SUM; POWER; PRODUCTS; q = add x p5;
    u = mul q p3; v = mul y p4; w = mul z p5; m = mul q p4; o = sum u v w m
products with the reciprocal and more | 5>1 0>0 | 5>1 0>0 | EXPONENTIALS; SUM; POWER; q = add r p5; x = mul a q;
    y = mul q b; z = mul c q; RESULT
a quotient that is summed at once | 5>1 7>1 | 5>1 7>1 | EXPONENTIALS; SUM; POWER; x = mul a r; y = mul r b;
    z = add x p3; t = add z y; o = mul t p4
quotients twice | 8>1 0>0 | 8>1 11>1 | EXPONENTIALS; SUM; POWER; PRODUCTS; k = mul a r; u = mul x p3; v = mul y p4;
    w = mul z p5; m = mul k p4; o = sum u v w m
a term twice | 0>0 0>0 | 0>0 0>0 | a = exp p0; b = exp p1; s = sum a b a; POWER; x = mul a r; y = mul r b;
    u = mul x p3; v = mul y p4; o = add u v
a product that is none of its own | 8>1 0>0 | 8>1 0>0 | EXPONENTIALS; SUM; POWER; PRODUCTS; t = mul a p4; q = mul r r;
    u = mul x t; v = mul y q; w = mul z p5; o = sum u v w
quotients far away | 6>1 10>1 | 6>1 10>1 | EXPONENTIALS; SUM; POWER; x = mul a r; d = sin x; d1 = sin d; d2 = sin d1;
    d3 = sin d2; d4 = sin d3; d5 = sin d4; d6 = sin d5; d7 = sin d6; d8 = sin d7; d9 = sin d8; e1 = sin d9;
    e2 = sin e1; e3 = sin e2; e4 = sin e3; e5 = sin e4; e6 = sin e5; e7 = sin e6; e8 = sin e7; e9 = sin e8;
    f1 = sin e9; f2 = sin f1; f3 = sin f2; f4 = sin f3; f5 = sin f4; f6 = sin f5; f7 = sin f6; f8 = sin f7;
    f9 = sin f8; g1 = sin f9; g2 = sin g1; g3 = sin g2; g4 = sin g3; g5 = sin g4; y = mul r b; z = mul c r;
    k = mul z p4; h = mul y p3; o = sum g5 h k
another power | 0>0 0>0 | 0>0 0>0 | EXPONENTIALS; SUM; r = powc s -2; PRODUCTS; RESULT
another quotient | 0>0 0>0 | 0>0 0>0 | EXPONENTIALS; SUM; two = constant 2; r = div two s; PRODUCTS; RESULT
another power besides | 8>1 2>1 | 8>1 2>1 | EXPONENTIALS; SUM; POWER; PRODUCTS; t = powc s -2; f = mul a t;
    g = mul b t; h = mul c t; l = mul f p3; m = mul g p4; n = mul h p3; u = mul x p3; v = mul y p4; w = mul z p5;
    o = sum u v w l m n
the reciprocal's reciprocal | 8>1 0>0 | 8>1 0>0 | EXPONENTIALS; SUM; POWER; PRODUCTS; t = powc r -1; f = mul a t;
    g = mul b t; h = mul c t; l = mul f p3; m = mul g p4; n = mul h p3; u = mul x p3; v = mul y p4; w = mul z p5;
    o = sum u v w l m n
terms that are products | 0>0 0>0 | 0>0 0>0 | EXPONENTIALS; d = mul a p3; e = mul b p4; s = sum d e c; POWER; PRODUCTS;
    RESULT
one term | 0>0 0>0 | 0>0 0>0 | a = exp p0; zero = constant 0; s = add a zero; POWER; x = mul a r; o = mul x p3
ten terms | 0>0 0>0 | 0>0 0>0 | EXPONENTIALS; d = exp p3; e = exp p4; f = exp p5; g = exp a; h = exp d; i = sin p0;
    j = exp i; s = sum a b c d e f g h i j; POWER; PRODUCTS; RESULT
eight terms | 14>1 18>1 | 14>1 18>1 | EXPONENTIALS; d = exp p3; e = exp p4; f = exp p5; i = sin p0; j = exp i;
    k = sin p1; l = exp k; s = sum a b c d e f j l; POWER; PRODUCTS; g = mul l r; u = mul x p3; v = mul y p4;
    w = mul z p5; h = mul g p3; o = sum u v w h
softmax of softmax | 16>2 19>2 | 16>2 19>2 | EXPONENTIALS; SUM; POWER; PRODUCTS; d = exp x; e = exp y; f = exp z;
    t = sum d e f; q = powc t -1; u = mul d q; v = mul e q; w = mul f q; g = mul u p3; h = mul v p4; i = mul w p5;
    o = sum g h i
sums of another's terms | 13>2 13>2 | 13>2 13>2 | EXPONENTIALS; SUM; POWER; PRODUCTS; d = exp p3; t = sum a d;
    q = powc t -1; k = mul a q; l = mul d q; u = mul x p3; v = mul y p4; w = mul z p5; m = mul k p4; n = mul l p3;
    o = sum u v w m n
equal exponentials | 6>1 5>1 | 6>1 5>1 | a = exp p0; b = exp p1; c = exp p0; s = sum a b; POWER; x = mul a r;
    y = mul b r; u = mul x p3; v = mul y p4; w = mul c p5; o = sum u v w

read by a choice | 7>1 8>1 | 7>1 8>1 | EXPONENTIALS; t = select p3 p4 b; k = sin t; SUM; POWER; PRODUCTS; u = mul x p3;
    v = mul y p4; w = mul z p5; o = sum u v w k
read by a first operand | 7>1 8>1 | 7>1 8>1 | EXPONENTIALS; t = sin b; k = mul t t; SUM; POWER; PRODUCTS; u = mul x p3;
    v = mul y p4; w = mul z p5; o = sum u v w k
read by a second operand | 7>1 8>1 | 7>1 8>1 | EXPONENTIALS; t = maximum p3 b; k = sin t; SUM; POWER; PRODUCTS;
    u = mul x p3; v = mul y p4; w = mul z p5; o = sum u v w k
read by a product | 7>1 8>1 | 7>1 8>1 | EXPONENTIALS; t = mul p3 b; k = sin t; SUM; POWER; PRODUCTS; u = mul x p3;
    v = mul y p4; w = mul z p5; o = sum u v w k
read by a sum | 7>1 8>1 | 7>1 8>1 | EXPONENTIALS; t = add p3 b; k = sin t; SUM; POWER; PRODUCTS; u = mul x p3;
    v = mul y p4; w = mul z p5; o = sum u v w k

log(e^x + 1) | 3>1 2>1 | 3>1 2>1 | e = exp p0; one = constant 1; t = add e one; l = log t; o = mul l p1
log(1 + e^x) | 3>1 2>1 | 3>1 2>1 | e = exp p0; one = constant 1; t = add one e; l = log t; o = mul l p1
log(e^x + 1.5) | 0>0 0>0 | 0>0 0>0 | e = exp p0; one = constant 1.5; t = add e one; l = log t; o = mul l p1
log(e^x + y) | 0>0 0>0 | 0>0 0>0 | e = exp p0; y = exp p1; t = add e y; l = log t; o = mul l p1
log(x + 1) | 0>0 0>0 | 0>0 0>0 | e = exp p0; x = sin p1; one = constant 1; t = add x one; m = mul t t; l = log m;
    o = mul l e
log(e^x + 1 + y) | 0>0 0>0 | 0>0 0>0 | e = exp p0; y = exp p1; one = constant 1; t = sum e one y; l = log t;
    o = mul l p1
log(e^x y + 1) | 0>0 0>0 | 0>0 0>0 | e = exp p0; y = exp p1; f = mul e y; one = constant 1; t = add f one; l = log t;
    o = mul l p1
log(1 + e^x y) | 0>0 0>0 | 0>0 0>0 | e = exp p0; y = exp p1; f = mul e y; one = constant 1; t = add one f; l = log t;
    o = mul l p1
sin(e^x + 1) | 0>0 0>0 | 0>0 0>0 | e = exp p0; one = constant 1; t = add e one; l = sin t; o = mul l p1
log(e^x + 1), e^x read before | 0>0 0>0 | 0>0 0>0 | e = exp p0; f = sin e; one = constant 1; t = add e one; l = log t;
    m = mul l p1; o = add m f
log(e^x + 1), e^x read after | 3>1 0>0 | 3>1 0>0 | e = exp p0; one = constant 1; t = add e one; l = log t; f = sin e;
    m = mul l p1; o = add m f
log(e^x + 1), e^x + 1 read after | 3>1 0>0 | 3>1 0>0 | e = exp p0; one = constant 1; t = add e one; l = log t;
    f = sin t; m = mul l p1; o = add m f
log(e^x + 1), e^x + 1 read before | 0>0 0>0 | 0>0 0>0 | e = exp p0; one = constant 1; t = add e one; f = sin t;
    l = log t; m = mul l p1; o = add m f
log of e^x + 1 twice | 3>1 0>0 | 3>1 2>1 | e = exp p0; one = constant 1; t = add e one; l = log t; f = exp p0;
    k = add f one; n = log k; m = mul l p1; q = mul n p2; o = add m q
1 / (e^x + 1) | 4>1 2>1 | 4>1 2>1 | e = exp p0; one = constant 1; s = add e one; POWER; t = log s; x = mul e r;
    m = mul x p1; o = add m t

softplus | 1>1 1>1 | 1>1 1>1 | l = softplus p0; o = mul l p1
softplus twice | 1>1 2>2 | 2>1 1>1 | l = softplus p0; m = softplus p0; e = exp p0; n = mul l p1; k = mul m p2;
    h = mul e p3; o = sum n k h
softplus, then e^x | 1>1 1>1 | 2>1 1>1 | l = softplus p0; k = sin l; e = exp p0; m = mul l p1; n = mul e p2;
    o = sum m n k
e^x, then softplus | 1>1 1>1 | 2>1 1>1 | e = exp p0; k = sin e; l = softplus p0; m = mul l p1; n = mul e p2;
    o = sum m n k
softplus, then e^x + 1 | 1>1 1>1 | 3>1 1>1 | l = softplus p0; k = sin l; e = exp p0; one = constant 1; t = add e one;
    f = sin t; m = mul l p1; n = mul e p2; o = sum m n k f
softplus, then 1 + e^x | 1>1 1>1 | 3>1 1>1 | l = softplus p0; e = exp p0; one = constant 1; t = add one e; f = sin t;
    m = mul l p1; o = sum m f
softplus, then e^x + y | 1>1 1>1 | 2>1 1>1 | l = softplus p0; e = exp p0; t = add p2 e; f = sin t; m = mul l p1;
    o = sum m f
softplus, then e^x + 1 at the end of a sum | 1>1 1>1 | 2>1 1>1 | l = softplus p0; e = exp p0; one = constant 1;
    t = sum p0 p1 p2 p3 p4 p5 l p1 e one; f = sin t; m = mul l p1; o = add m f
softplus of others | 1>1 1>1 | 1>1 1>1 | l = softplus p0; e = exp p1; m = mul l p1; n = mul e p2; o = add m n
softplus and softmax of one number | 9>2 12>2 | 9>2 12>2 | EXPONENTIALS; SUM; POWER; PRODUCTS; l = softplus p0;
    k = mul l p4; u = mul x p3; v = mul y p4; w = mul z p5; o = sum u v w k
softmax of one exponential, and softplus | 6>2 6>2 | 6>2 6>2 | a = exp p0; b = mul p1 p1; s = add a b; POWER;
    x = mul a r; y = mul b r; l = softplus p0; u = mul x p3; v = mul y p4; w = mul l p5; o = sum u v w
softplus before and after e^x | 1>1 2>2 | 2>1 1>1 | t = sin p3; q = sin p4; v = sin p5; l = softplus p0; k = sin t;
    h = mul q k; i = sin h; d = sin v; e = exp p0; g = sin i; m = softplus p0; w = mul l p1; x = mul m p2; y = mul e p3;
    z = mul g d; o = sum w x y z t q v k i
)";

}  // namespace tapegrad::test
