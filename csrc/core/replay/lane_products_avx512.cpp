// lane_products_avx512.cpp: the kernels for sums of products on x86-64 processors with AVX-512.
#if defined(__x86_64__)
#define TAPEGRAD_ISA_AVX512
#define TAPEGRAD_PRODUCTS kProductsAvx512
#include "core/replay/lane_products.inc"
#endif
