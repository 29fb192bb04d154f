// lanes_baseline.cpp: the lane kernels for what every processor of the architecture has (x86-64: SSE2; AArch64: NEON).
#define TAPEGRAD_KERNELS kBaseline
#include "core/lanes/lanes_kernels.inc"
