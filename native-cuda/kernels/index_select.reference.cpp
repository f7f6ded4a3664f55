#include "index_select.h"

#include "gather_rows.h"

template <class T>
void index_select_forward_reference(const T* x, const int32_t* index, T* y, int64_t outer, int64_t length, int64_t n, int64_t inner) {
  for (int64_t o = 0; o < outer; ++o) gather_rows_forward_reference(x + o * length * inner, index, y + o * n * inner, n, inner);
}

template <class T>
void index_select_backward_reference(const T* dy, const int32_t* index, T* dx, int64_t outer, int64_t length, int64_t n, int64_t inner) {
  for (int64_t o = 0; o < outer; ++o) gather_rows_backward_reference(dy + o * n * inner, index, dx + o * length * inner, n, length, inner);
}

#define INSTANTIATE(T)                                                                                                   \
  template void index_select_forward_reference(const T*, const int32_t*, T*, int64_t, int64_t, int64_t, int64_t);        \
  template void index_select_backward_reference(const T*, const int32_t*, T*, int64_t, int64_t, int64_t, int64_t);
INSTANTIATE(float)
INSTANTIATE(double)
