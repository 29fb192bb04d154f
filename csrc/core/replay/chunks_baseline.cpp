// chunks_baseline.cpp: the interpreter of chunks for what every processor of the architecture has.
#define TAPEGRAD_CHUNKS kChunksBaseline
#include "core/replay/chunks.inc"
