// The nearest row of a codebook: z (R, D), codebook (K, D) -> codes i32 (R), codes[r] = argmin over k of |z[r] - codebook[k]|^2.
// Of equally near codes the lowest wins. Squared differences are added in order of d in the dtype of z, in both twins, so the
// f32 twins give the same codes. A row with NaN, or with only infinite distances, gets code 0. K is at least 1 when R is.
// No gradient: a choice has none. No aliasing.
// Source: van den Oord et al. 2017, eq. 1.
#pragma once
#include <cstdint>

void nearest_code(const float* z, const float* codebook, int32_t* codes, int64_t rows, int64_t count, int64_t width, int threads);

template <class T>
void nearest_code_reference(const T* z, const T* codebook, int32_t* codes, int64_t rows, int64_t count, int64_t width);
