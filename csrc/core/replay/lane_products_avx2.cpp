// lane_products_avx2.cpp: the kernels for sums of products on x86-64 processors with AVX2.
#if defined(__x86_64__)
#define TAPEGRAD_ISA_AVX2
#define TAPEGRAD_PRODUCTS kProductsAvx2
#include "core/replay/lane_products.inc"
#endif
