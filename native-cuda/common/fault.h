// Errors of the native side. Kernels throw Fault; the stream makes it sticky. The device and the binding
// throw CodedError; the binding turns it into a JavaScript error with the same code.
#pragma once
#include <cstdarg>
#include <cstdio>
#include <stdexcept>
#include <string>

struct Fault : std::runtime_error {
  const char* code;  // what `read` and `fence` reject with
  explicit Fault(const std::string& message, const char* code = "ERR_DEVICE") : std::runtime_error(message), code(code) {}
};

struct CodedError : std::runtime_error {
  const char* code;  // one of runtime/errors.ts
  CodedError(const char* code, const std::string& message) : std::runtime_error(message), code(code) {}
};

__attribute__((format(printf, 1, 2))) inline std::string format(const char* pattern, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, pattern);
  std::vsnprintf(text, sizeof text, pattern, arguments);
  va_end(arguments);
  return text;
}

/// fail("gather_rows_forward: index[%lld] is %d, expected 0..%lld", ...) never returns.
[[noreturn]] __attribute__((format(printf, 1, 2))) inline void fail(const char* pattern, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, pattern);
  std::vsnprintf(text, sizeof text, pattern, arguments);
  va_end(arguments);
  throw Fault(text);
}
