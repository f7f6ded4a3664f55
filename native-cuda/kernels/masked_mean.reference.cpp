#include "masked_mean.h"

static int64_t kept(const uint8_t* mask, int64_t tokens) {
  int64_t count = 0;
  for (int64_t n = 0; n < tokens; ++n) count += mask[n] != 0;
  return count;
}

template <class T>
void masked_mean_forward_reference(const T* x, const uint8_t* mask, T* y, int64_t batch, int64_t tokens, int64_t cols) {
  for (int64_t b = 0; b < batch; ++b, mask += tokens, x += tokens * cols, y += cols) {
    const int64_t count = kept(mask, tokens);
    for (int64_t c = 0; c < cols; ++c) {
      T sum = 0;
      for (int64_t n = 0; n < tokens; ++n)
        if (mask[n]) sum += x[n * cols + c];
      y[c] = count ? sum / static_cast<T>(count) : 0;
    }
  }
}

template <class T>
void masked_mean_backward_reference(const T* dy, const uint8_t* mask, T* dx, int64_t batch, int64_t tokens, int64_t cols) {
  for (int64_t b = 0; b < batch; ++b, mask += tokens, dx += tokens * cols, dy += cols) {
    const int64_t count = kept(mask, tokens);
    for (int64_t n = 0; n < tokens; ++n)
      for (int64_t c = 0; c < cols; ++c) dx[n * cols + c] = mask[n] ? dy[c] / static_cast<T>(count) : 0;
  }
}

#define INSTANTIATE(T)                                                                                       \
  template void masked_mean_forward_reference(const T*, const uint8_t*, T*, int64_t, int64_t, int64_t);      \
  template void masked_mean_backward_reference(const T*, const uint8_t*, T*, int64_t, int64_t, int64_t);
INSTANTIATE(float)
INSTANTIATE(double)
