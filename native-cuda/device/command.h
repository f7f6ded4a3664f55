// One record of the stream: plain data, executed later, in order.
#pragma once
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>

#include "../common/tensor_view.h"
#include "staging.h"

struct Program;

struct Command {
  enum class Kind : uint8_t {
    kernel,   // payload: TensorView[tensors], then double[scalars]
    replay,   // `program`; payload: the addresses it runs with
    copy,     // `bytes` from source to target; payload may own the source
    fence,    // completes when everything before it is done
    release,  // gives `target` of `bytes` back to the system
    unmap,    // ends the mapping `target` of `bytes`
    check,    // payload: the one TensorView that `name` brought in from outside (guard.h)
    action,   // action(argument), also after a fault
    fill,     // `target` of `bytes` gets finite numbers (guard.h)
    stamp,    // `target`, an int64, gets the time (stamps.h)
  };
  Kind kind = Kind::fence;
  int kernel = -1;
  int tensors = 0, scalars = 0;
  const char* name = "";    // static text: what a fault names
  uint64_t sequence = 0;    // given by the stream, from 1
  uint64_t completion = 0;  // not 0: tell the host when done
  void* target = nullptr;
  const void* source = nullptr;
  size_t bytes = 0;
  Staging::Buffer payload;
  std::shared_ptr<const Program> program;
  void (*action)(int64_t argument) = nullptr;
  int64_t argument = 0;

  const TensorView* views() const { return reinterpret_cast<const TensorView*>(payload.get()); }
  const double* values() const { return reinterpret_cast<const double*>(payload.get() + sizeof(TensorView) * tensors); }
};

/// What stopped the stream: the first command that failed.
struct StreamFault {
  std::string op, message;
  const char* code = "ERR_DEVICE";
  uint64_t sequence = 0;  // 0: a failure beside the stream
};
