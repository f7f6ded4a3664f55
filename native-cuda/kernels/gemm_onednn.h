// Matmul primitives of oneDNN, opened at run time: C (m, n) = op(A) (m, k) * op(B) (k, n) [+ bias (n)] [+ C], row-major.
// OD-1: a primitive is created and executed with one thread, so its bits depend on the product and the machine alone.
// OD-2: prepared products are kept, at most kKept idle ones, and handed to one thread at a time; any thread may call.
// OD-3: what a major version does its own way is behind OneDnnDialect, one file per major (decision N-2).
#pragma once
#include <dlfcn.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

/// `function` of an opened library by its name; false when it has none.
template <class F> bool find_symbol(void* library, const char* name, F& function) {
  return (function = reinterpret_cast<F>(dlsym(library, name))) != nullptr;
}

/// What a primitive is made for. The numbers of oneDNN's dnnl_data_type_t, the same in majors 2 and 3.
enum class OneDnnType : int { bf16 = 2, f32 = 3 };

struct OneDnnProduct {
  bool ta, tb;
  int64_t m, n, k, lda, ldb, ldc;
  OneDnnType in, out;
  bool bias;  // f32 (n), added before C is rounded
  bool add;   // C is added to, not overwritten; f32 only
  bool operator==(const OneDnnProduct&) const = default;
};

/// A matrix or vector as oneDNN describes it; strides in elements.
struct OneDnnMatrix {
  int64_t dims[2], strides[2];
  OneDnnType type;
};

/// The calls that majors 2 and 3 spell differently. Handles of the library are void*; every call returns a dnnl_status_t.
class OneDnnDialect {
 public:
  using Descriptor = std::shared_ptr<void>;
  virtual ~OneDnnDialect() = default;
  virtual Descriptor describe(const OneDnnMatrix& matrix) const = 0;  // null when refused
  virtual int matmul(void** primitive_descriptor, void* engine, void* attributes, void* a, void* b, void* bias, void* c) const = 0;
  virtual int append_sum(void* post_operations) const = 0;
};
std::unique_ptr<OneDnnDialect> onednn2_dialect(void* library);  // null when the library lacks a function
std::unique_ptr<OneDnnDialect> onednn3_dialect(void* library);

class OneDnn {
 public:
  /// `library` is a handle of dlopen and stays open. Null with a reason when it has no matmul primitives that we can use.
  static std::unique_ptr<OneDnn> open(void* library, int major, std::string& reason);
  ~OneDnn();

  /// Computes the product, or returns false when oneDNN has no fast implementation of it. Throws Fault when it fails.
  bool run(const OneDnnProduct& product, const void* a, const void* b, const float* bias, void* c);
  /// Whether a small product of this type comes out as plain loops have it: proof that the library's calls are what we think.
  bool proven(OneDnnType in);
  /// Name of the implementation that oneDNN chose, empty when it has none that is fast.
  std::string implementation(const OneDnnProduct& product);

 private:
  struct Calls;
  struct Prepared;
  struct Shelf;
  OneDnn(std::unique_ptr<Calls> calls, std::unique_ptr<OneDnnDialect> dialect);
  std::unique_ptr<Prepared> prepare(const OneDnnProduct& product);
  void execute(Prepared& prepared, const void* a, const void* b, const float* bias, void* c);

  std::unique_ptr<Calls> calls_;
  std::unique_ptr<OneDnnDialect> dialect_;
  std::unique_ptr<Shelf> shelf_;
};
