// fused_baseline.cpp: the fused steps for what every processor of the architecture has.
#define TAPEGRAD_FUSED kFusedBaseline
#include "core/replay/fused.inc"
