// scale: y = factor * x.  accumulate: y += x.  Same shape; y may be x.  accumulate_many: (x1, y1), (x2, y2), ..., one team for all (many.h).
#pragma once
#include "floats.h"

void scale(const Floats& x, const Floats& y, int64_t n, double factor, int threads);
void accumulate(const Floats& x, const Floats& y, int64_t n, int threads);

template <class T> void scale_reference(const T* x, T* y, int64_t n, double factor);
template <class T> void accumulate_reference(const T* x, T* y, int64_t n);
