// lane_products_baseline.cpp: the kernels for sums of products on any processor.
#define TAPEGRAD_PRODUCTS kProductsBaseline
#include "core/replay/lane_products.inc"
