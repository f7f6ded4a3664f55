#include "rms_norm.h"

#include <cmath>

template <class T>
void rms_norm_forward_reference(const T* x, const T* w, T* y, T* rstd, int64_t rows, int64_t cols, double eps) {
  const T count = static_cast<T>(cols ? cols : 1);
  for (int64_t r = 0; r < rows; ++r, x += cols, y += cols) {
    T squares = 0;
    for (int64_t c = 0; c < cols; ++c) squares += x[c] * x[c];
    const T scale = 1 / std::sqrt(squares / count + static_cast<T>(eps));
    for (int64_t c = 0; c < cols; ++c) y[c] = w[c] * (x[c] * scale);
    rstd[r] = scale;
  }
}

template <class T>
void rms_norm_backward_input_reference(const T* dy, const T* x, const T* w, const T* rstd, T* dx, int64_t rows, int64_t cols) {
  const T count = static_cast<T>(cols ? cols : 1);
  for (int64_t r = 0; r < rows; ++r, dy += cols, x += cols, dx += cols) {
    T mean_xg = 0;
    for (int64_t c = 0; c < cols; ++c) mean_xg += x[c] * w[c] * dy[c] / count;
    for (int64_t c = 0; c < cols; ++c)
      dx[c] = rstd[r] * (w[c] * dy[c]) - x[c] * rstd[r] * rstd[r] * rstd[r] * mean_xg;
  }
}

template <class T>
void rms_norm_backward_weight_reference(const T* dy, const T* x, const T* rstd, T* dw, int64_t rows, int64_t cols) {
  for (int64_t c = 0; c < cols; ++c) {
    T sum = 0;
    for (int64_t r = 0; r < rows; ++r) sum += dy[r * cols + c] * (x[r * cols + c] * rstd[r]);
    dw[c] = sum;
  }
}

#define INSTANTIATE(T)                                                                                              \
  template void rms_norm_forward_reference(const T*, const T*, T*, T*, int64_t, int64_t, double);                   \
  template void rms_norm_backward_input_reference(const T*, const T*, const T*, const T*, T*, int64_t, int64_t);    \
  template void rms_norm_backward_weight_reference(const T*, const T*, const T*, T*, int64_t, int64_t);
INSTANTIATE(float)
INSTANTIATE(double)
