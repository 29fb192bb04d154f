// current_frame.cpp: reads the interpreter's own frame. A frame object, as PyEval_GetFrame() gives, costs several times
// as much as an operation on Values does, and generator expressions would need a new one every few operations.
#include "python/tools/current_frame.hpp"

#if PY_VERSION_HEX < 0x030C0000
// From 3.12 on there are functions for what this header is needed for.
#define Py_BUILD_CORE 1
#include <internal/pycore_frame.h>
#endif

namespace tapegrad::python {

bool current_place(PyCodeObject** code, int* instruction) {
  PyThreadState* thread = PyThreadState_Get();
#if PY_VERSION_HEX < 0x030C0000
  struct _PyInterpreterFrame* frame = thread->cframe->current_frame;
  while (frame && _PyFrame_IsIncomplete(frame)) frame = frame->previous;
  if (!frame) return false;
  *code = frame->f_code;
  *instruction = _PyInterpreterFrame_LASTI(frame) * static_cast<int>(sizeof(_Py_CODEUNIT));
  return true;
#else
#if PY_VERSION_HEX < 0x030D0000
  struct _PyInterpreterFrame* frame = thread->cframe->current_frame;
#else
  struct _PyInterpreterFrame* frame = thread->current_frame;
#endif
  PyObject* held = frame ? PyUnstable_InterpreterFrame_GetCode(frame) : nullptr;
  if (!held) return false;
  const bool found = PyCode_Check(held);
  *code = reinterpret_cast<PyCodeObject*>(held);
  *instruction = PyUnstable_InterpreterFrame_GetLasti(frame);
  Py_DECREF(held);  // the frame owns it too
  return found;
#endif
}

}  // namespace tapegrad::python
