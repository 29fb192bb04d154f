// marks.cpp: lets Python tell callgrind where a part begins and ends; loaded with ctypes.
#include <valgrind/callgrind.h>

extern "C" __attribute__((visibility("default"))) void tapegrad_begin() {
  CALLGRIND_START_INSTRUMENTATION;
  CALLGRIND_ZERO_STATS;
}

extern "C" __attribute__((visibility("default"))) void tapegrad_end(const char* name) {
  CALLGRIND_DUMP_STATS_AT(name);
  CALLGRIND_STOP_INSTRUMENTATION;
}
