#include "rearrange.h"

#include <array>

using Index = std::array<int64_t, kMaxRank>;

static Index index_of(const TensorView& t, int64_t element) {
  Index at{};
  for (int d = t.rank - 1; d >= 0; --d) at[d] = element % t.dim[d], element /= t.dim[d];
  return at;
}

static int64_t element_of(const TensorView& t, const Index& at) {
  int64_t element = 0;
  for (int d = 0; d < t.rank; ++d) element = element * t.dim[d] + at[d];
  return element;
}

template <class T> void slice_forward_reference(const TensorView& x, const TensorView& y, int axis, int64_t start) {
  for (int64_t i = 0; i < y.numel; ++i) {
    Index at = index_of(y, i);
    at[axis] += start;
    y.as<T>()[i] = x.as<const T>()[element_of(x, at)];
  }
}

template <class T> void slice_backward_reference(const TensorView& dy, const TensorView& dx, int axis, int64_t start) {
  for (int64_t i = 0; i < dx.numel; ++i) {
    Index at = index_of(dx, i);
    at[axis] -= start;
    const bool inside = at[axis] >= 0 && at[axis] < dy.dim[axis];
    dx.as<T>()[i] = inside ? dy.as<const T>()[element_of(dy, at)] : T(0);
  }
}

template <class T> void concat_reference(const TensorView* x, int n, const TensorView& y, int axis) {
  int64_t start = 0;
  for (int part = 0; part < n; ++part) {
    for (int64_t i = 0; i < x[part].numel; ++i) {
      Index at = index_of(x[part], i);
      at[axis] += start;
      y.as<T>()[element_of(y, at)] = x[part].as<const T>()[i];
    }
    start += x[part].dim[axis];
  }
}

template <class T> void permute_reference(const TensorView& x, const TensorView& y, const int* order) {
  for (int64_t i = 0; i < y.numel; ++i) {
    const Index to = index_of(y, i);
    Index from{};
    for (int d = 0; d < y.rank; ++d) from[order[d]] = to[d];
    y.as<T>()[i] = x.as<const T>()[element_of(x, from)];
  }
}

template <class T> void write_rows_reference(const TensorView& x, int64_t at, const TensorView& y) {
  for (int64_t i = 0; i < x.numel; ++i) {
    Index to = index_of(x, i);
    to[1] += at;
    y.as<T>()[element_of(y, to)] = x.as<const T>()[i];
  }
}

#define INSTANTIATE(T)                                                                               \
  template void slice_forward_reference<T>(const TensorView&, const TensorView&, int, int64_t);      \
  template void slice_backward_reference<T>(const TensorView&, const TensorView&, int, int64_t);     \
  template void concat_reference<T>(const TensorView*, int, const TensorView&, int);                 \
  template void permute_reference<T>(const TensorView&, const TensorView&, const int*);              \
  template void write_rows_reference<T>(const TensorView&, int64_t, const TensorView&);
INSTANTIATE(float)
INSTANTIATE(double)
