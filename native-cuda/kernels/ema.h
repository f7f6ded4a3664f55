// A moving average of parameters, in place: e = decay e + (1 - decay) p. e and p of one shape; p is read only, no overlap.
// Source: Polyak and Juditsky 1992; Tarvainen and Valpola 2017.
// ema: tensors e, p, scalar decay.  ema_many: e1, p1, e2, p2, ..., scalar decay; the bits of ema (MA-1).
#pragma once
#include <cstdint>

void ema(float* e, const float* p, int64_t n, double decay, int threads);
template <class T> void ema_reference(T* e, const T* p, int64_t n, double decay);
