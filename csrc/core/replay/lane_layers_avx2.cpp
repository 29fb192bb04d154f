// lane_layers_avx2.cpp: the kernels for layers on x86-64 processors with AVX2.
#if defined(__x86_64__)
#define TAPEGRAD_ISA_AVX2
#define TAPEGRAD_LAYERS kLayersAvx2
#include "core/replay/lane_layers.inc"
#endif
