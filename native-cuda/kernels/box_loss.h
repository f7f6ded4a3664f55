// Losses between K boxes (K, 4) in (centre x, centre y, width, height), fractions of the page. The target gets no gradient.
//   box_l1:   loss (1) = weight * sum |pred - target| over the 4 numbers of every box;  slope sign(d), 0 at d = 0
//   box_giou: loss (1) = weight * sum over boxes of 1 - GIoU,  GIoU = I / U - (C - U) / C  (Rezatofighi et al. 2019)
// I, U, C: areas of intersection, union and enclosing box of the corners (centre -+ side / 2), where every width and height
// is first clamped below at 1e-6; a clamped side has slope 0. Where edges coincide, the slope takes pred's edge.
// Accumulated in f64 in box order. dpred may be pred. There are at most hundreds of boxes and a box costs tens of flops, so
// the fast versions are the f64 reference on widened boxes: GIoU subtracts nearly equal areas, which f32 would feel.
#pragma once
#include <cstdint>

double box_l1_forward(const float* pred, const float* target, int64_t boxes, double weight);
void box_l1_backward(const float* dloss, const float* pred, const float* target, float* dpred, int64_t boxes, double weight);
double box_giou_forward(const float* pred, const float* target, int64_t boxes, double weight);
void box_giou_backward(const float* dloss, const float* pred, const float* target, float* dpred, int64_t boxes, double weight);

template <class T> double box_l1_forward_reference(const T* pred, const T* target, int64_t boxes, double weight);
template <class T> void box_l1_backward_reference(const T* dloss, const T* pred, const T* target, T* dpred, int64_t boxes, double weight);
template <class T> double box_giou_forward_reference(const T* pred, const T* target, int64_t boxes, double weight);
template <class T> void box_giou_backward_reference(const T* dloss, const T* pred, const T* target, T* dpred, int64_t boxes, double weight);
