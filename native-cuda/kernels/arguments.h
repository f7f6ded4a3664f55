// The operands of one kernel call, checked and named. A mistake throws before any tensor is touched, and the message says
// which kernel, which operand, what was expected and what came: "rms_norm_forward: w expected f32 with 96 elements (C),
// got f32 (64)". std::invalid_argument for shapes and dtypes, std::out_of_range for ids.
// Operands whose elements are vectors or rows of a flattened tensor ((R), (C), labels) are checked by count, not by rank:
// a bias of shape (1, 1, C) is a bias of C.
#pragma once
#include <initializer_list>
#include <string>
#include <vector>

#include "floats.h"
#include "registry.h"

class Arguments {
 public:
  Arguments(const KernelCall& call, const char* kernel, const std::vector<const char*>& tensors,
            const std::vector<const char*>& scalars = {});

  void dtype(int i, DType wanted) const;
  void floating(int i) const;                                             // f32, f64, or bf16 where the kernel asked for it
  void mask(int i) const;                                                 // u8 or bool
  void rank(int i, int wanted) const;
  void same_dtype(int i, int j) const;                                    // operand i has the dtype of operand j
  // Where bf16 may come: operand i has the dtype in which operand j is computed with, f64 or f32; it may also be bf16 if that
  // is f32; and it has the shape of operand j besides.
  void arithmetic(int i, int j) const;
  void same_arithmetic(int i, int j) const;
  void same_shape(int i, int j) const;
  void like(int i, int j) const;                                          // dtype and shape of operand j
  void count(int i, int64_t wanted, const char* letters) const;           // number of elements; letters name it: "(R)"
  void shape(int i, std::initializer_list<int64_t> wanted) const;
  int64_t whole(int k, int64_t low, int64_t high) const;                  // scalar k as an integer within [low, high]

  const TensorView& operator[](int i) const { return call_.tensor[i]; }
  double scalar(int k) const { return call_.scalar[k]; }
  int64_t cols(int i) const { return call_.tensor[i].cols(); }
  int64_t rows(int i) const;  // product of all dimensions but the last, also when the last is 0
  int threads() const { return call_.threads; }
  const char* kernel() const { return kernel_; }
  std::string name(int i) const { return names_[static_cast<size_t>(i)]; }
  template <class T> T* data(int i) const { return call_.tensor[i].template as<T>(); }
  Floats floats(int i) const { return Floats(call_.tensor[i]); }
  Floats output(int i) const { return Floats::output(call_.tensor[i]); }

  /// Dispatch by operand 0: f64 and reference mode run plain(T{}), f32 and bf16 run fast().
  template <class Plain, class Fast> void run(Plain&& plain, Fast&& fast) const {
    if (call_[0].dtype == DType::f64) return plain(double{});
    if (call_.reference) return plain(float{});
    fast();
  }

 private:
  [[noreturn]] void refuse(int i, const std::string& expected) const;
  const KernelCall& call_;
  const char* kernel_;
  std::vector<const char*> names_, scalar_names_;
};

std::string shape_text(const TensorView& t);  // "f32 (2, 3)"

inline constexpr int32_t kIgnoredLabel = -100;
/// Throws std::out_of_range unless every id is within [0, count), or is the ignored label where that is allowed.
void check_ids(const char* kernel, const char* operand, const int32_t* ids, int64_t n, int64_t count, bool ignore_label);
