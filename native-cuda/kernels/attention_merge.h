// Attention over keys that come in parts: each part gives its own y and lse (attention.h), and two of them make the result over both.
//   y, moreY (B, N, H*K)   lse, moreLse (B, H, N)   m = log(exp lse + exp moreLse), y = exp(lse - m) y + exp(moreLse - m) moreY, lse = m
// AM-1: a part in which a query sees no key (lse = -infinity) changes nothing; two of them give y = 0 and lse = -infinity.
// Kernel attention_merge [y, lse, moreY, moreLse], scalars (heads): y and lse in place. Source: Dao et al. 2022; Liu et al. 2023 (ring attention).
#pragma once
#include <cstdint>

struct MergeShape {
  int64_t B, N, H, K;
};

template <class T> void attention_merge_reference(const MergeShape& s, T* y, T* lse, const T* more_y, const T* more_lse);
void attention_merge(const MergeShape& s, float* y, float* lse, const float* more_y, const float* more_lse, int threads);
