// lane_layers_baseline.cpp: the kernels for layers on any processor.
#define TAPEGRAD_LAYERS kLayersBaseline
#include "core/replay/lane_layers.inc"
