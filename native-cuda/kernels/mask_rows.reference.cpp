#include "mask_rows.h"

template <class T>
void mask_rows_forward_reference(const T* x, const uint8_t* mask, const T* token, T* y, int64_t rows, int64_t cols) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) y[r * cols + c] = mask[r] ? token[c] : x[r * cols + c];
}

template <class T>
void mask_rows_backward_reference(const T* dy, const uint8_t* mask, T* dx, T* dtoken, int64_t rows, int64_t cols) {
  for (int64_t c = 0; c < cols; ++c) dtoken[c] = 0;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) {
      const T d = dy[r * cols + c];
      if (mask[r]) dtoken[c] += d;
      dx[r * cols + c] = mask[r] ? 0 : d;
    }
}

template void mask_rows_forward_reference(const float*, const uint8_t*, const float*, float*, int64_t, int64_t);
template void mask_rows_forward_reference(const double*, const uint8_t*, const double*, double*, int64_t, int64_t);
template void mask_rows_backward_reference(const float*, const uint8_t*, float*, float*, int64_t, int64_t);
template void mask_rows_backward_reference(const double*, const uint8_t*, double*, double*, int64_t, int64_t);
