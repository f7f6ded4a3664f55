// Cross-entropy over rows of logits (N, V) with labels i32 (N): loss (1) = weight * sum over rows of lse - sum_j q_j logit_j,
// lse (N) = log sum exp of the row. q is what the label asks for: the label alone, or spread (LabelSpread).
// A label of -100 leaves its row out: no loss, zero gradient, lse 0.
// Gradient: dlogits = dloss * weight * (softmax - q). The loss is accumulated in f64 in row order.
// A label outside [0, V) (with sigma: outside the bins) other than -100 throws std::out_of_range. Aliasing: dlogits may be logits.
#pragma once
#include <cstdint>
#include <vector>

#include "floats.h"

/// q = (1 - smoothing) * share + smoothing / V (Szegedy et al. 2016). The share of the label is 1; with sigma > 0 it is spread
/// over the neighbours within 6 sigma that are bins, classes [first, first + bins): exp(-(j - label)^2 / (2 sigma^2)), normalised.
struct LabelSpread {
  double smoothing, sigma;
  int64_t first, bins;
};

/// The classes [begin, begin + weight.size()) over which a label is spread, and their shares.
struct LabelShares {
  int64_t begin = 0;
  std::vector<double> weight;
  void of(int32_t label, const LabelSpread& spread);
};

double cross_entropy_forward(const Floats& logits, const int32_t* labels, float* lse, int64_t rows, int64_t cols, double weight,
                             const LabelSpread& spread, int threads);
void cross_entropy_backward(const float* dloss, const Floats& logits, const int32_t* labels, const float* lse, const Floats& dlogits,
                            int64_t rows, int64_t cols, double weight, const LabelSpread& spread, int threads);

template <class T>
double cross_entropy_forward_reference(const T* logits, const int32_t* labels, T* lse, int64_t rows, int64_t cols, double weight,
                                       const LabelSpread& spread);
template <class T>
void cross_entropy_backward_reference(const T* dloss, const T* logits, const int32_t* labels, const T* lse, T* dlogits,
                                      int64_t rows, int64_t cols, double weight, const LabelSpread& spread);
