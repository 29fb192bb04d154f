// lane_layers_avx512.cpp: the kernels for layers on x86-64 processors with AVX-512.
#if defined(__x86_64__)
#define TAPEGRAD_ISA_AVX512
#define TAPEGRAD_LAYERS kLayersAvx512
#include "core/replay/lane_layers.inc"
#endif
