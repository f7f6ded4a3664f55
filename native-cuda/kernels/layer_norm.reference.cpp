#include "layer_norm.h"

#include <cmath>

template <class T>
void layer_norm_forward_reference(const T* x, const T* w, const T* b, T* y, T* mean, T* rstd, int64_t rows, int64_t cols, double eps) {
  const T count = static_cast<T>(cols ? cols : 1);
  for (int64_t r = 0; r < rows; ++r, x += cols, y += cols) {
    T sum = 0, squares = 0;
    for (int64_t c = 0; c < cols; ++c) sum += x[c];
    const T m = sum / count;
    for (int64_t c = 0; c < cols; ++c) squares += (x[c] - m) * (x[c] - m);
    const T scale = 1 / std::sqrt(squares / count + static_cast<T>(eps));
    for (int64_t c = 0; c < cols; ++c) y[c] = w[c] * ((x[c] - m) * scale) + b[c];
    mean[r] = m, rstd[r] = scale;
  }
}

template <class T>
void layer_norm_backward_input_reference(const T* dy, const T* x, const T* w, const T* mean, const T* rstd, T* dx, int64_t rows, int64_t cols) {
  const T count = static_cast<T>(cols ? cols : 1);
  for (int64_t r = 0; r < rows; ++r, dy += cols, x += cols, dx += cols) {
    T mean_g = 0, mean_gx = 0;
    for (int64_t c = 0; c < cols; ++c) {
      const T g = w[c] * dy[c], xhat = (x[c] - mean[r]) * rstd[r];
      mean_g += g / count, mean_gx += g * xhat / count;
    }
    for (int64_t c = 0; c < cols; ++c) {
      const T g = w[c] * dy[c], xhat = (x[c] - mean[r]) * rstd[r];
      dx[c] = rstd[r] * (g - mean_g - xhat * mean_gx);
    }
  }
}

template <class T>
void layer_norm_backward_affine_reference(const T* dy, const T* x, const T* mean, const T* rstd, T* dw, T* db, int64_t rows, int64_t cols) {
  for (int64_t c = 0; c < cols; ++c) {
    T sum_w = 0, sum_b = 0;
    for (int64_t r = 0; r < rows; ++r) {
      const T d = dy[r * cols + c];
      sum_w += d * ((x[r * cols + c] - mean[r]) * rstd[r]), sum_b += d;
    }
    dw[c] = sum_w, db[c] = sum_b;
  }
}

#define INSTANTIATE(T)                                                                                                        \
  template void layer_norm_forward_reference(const T*, const T*, const T*, T*, T*, T*, int64_t, int64_t, double);             \
  template void layer_norm_backward_input_reference(const T*, const T*, const T*, const T*, const T*, T*, int64_t, int64_t);  \
  template void layer_norm_backward_affine_reference(const T*, const T*, const T*, const T*, T*, T*, int64_t, int64_t);
INSTANTIATE(float)
INSTANTIATE(double)
