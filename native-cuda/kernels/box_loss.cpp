#include "box_loss.h"

#include <algorithm>
#include <vector>

#include "arguments.h"

static std::vector<double> widened(const float* boxes, int64_t count) { return {boxes, boxes + 4 * count}; }

double box_l1_forward(const float* pred, const float* target, int64_t boxes, double weight) {
  return box_l1_forward_reference(widened(pred, boxes).data(), widened(target, boxes).data(), boxes, weight);
}

void box_l1_backward(const float* dloss, const float* pred, const float* target, float* dpred, int64_t boxes, double weight) {
  const double slope = *dloss;
  std::vector<double> out(static_cast<size_t>(4 * boxes));
  box_l1_backward_reference(&slope, widened(pred, boxes).data(), widened(target, boxes).data(), out.data(), boxes, weight);
  std::copy(out.begin(), out.end(), dpred);
}

double box_giou_forward(const float* pred, const float* target, int64_t boxes, double weight) {
  return box_giou_forward_reference(widened(pred, boxes).data(), widened(target, boxes).data(), boxes, weight);
}

void box_giou_backward(const float* dloss, const float* pred, const float* target, float* dpred, int64_t boxes, double weight) {
  const double slope = *dloss;
  std::vector<double> out(static_cast<size_t>(4 * boxes));
  box_giou_backward_reference(&slope, widened(pred, boxes).data(), widened(target, boxes).data(), out.data(), boxes, weight);
  std::copy(out.begin(), out.end(), dpred);
}

static int64_t check_boxes(const Arguments& a, int pred) {
  a.floating(0), a.same_dtype(pred, 0), a.rank(pred, 2), a.shape(pred, {a[pred].dim[0], 4}), a.like(pred + 1, pred);
  return a[pred].dim[0];
}

#define DEFINE(name)                                                                                                        \
  OCTAVO_KERNEL(name##_forward) {                                                                                           \
    const Arguments a(call, #name "_forward", {"pred", "target", "loss"}, {"weight"});                                      \
    const int64_t boxes = check_boxes(a, 0);                                                                                \
    a.same_dtype(2, 0), a.count(2, 1, "(1)");                                                                               \
    a.run(                                                                                                                  \
        [&]<class T>(T) {                                                                                                   \
          *a.data<T>(2) = static_cast<T>(name##_forward_reference(a.data<const T>(0), a.data<const T>(1), boxes, a.scalar(0))); \
        },                                                                                                                  \
        [&] {                                                                                                               \
          *a.data<float>(2) = static_cast<float>(name##_forward(a.data<const float>(0), a.data<const float>(1), boxes, a.scalar(0))); \
        });                                                                                                                 \
  }                                                                                                                         \
  OCTAVO_KERNEL(name##_backward) {                                                                                          \
    const Arguments a(call, #name "_backward", {"dloss", "pred", "target", "dpred"}, {"weight"});                           \
    a.count(0, 1, "(1)");                                                                                                   \
    const int64_t boxes = check_boxes(a, 1);                                                                                \
    a.like(3, 1);                                                                                                           \
    a.run(                                                                                                                  \
        [&]<class T>(T) {                                                                                                   \
          name##_backward_reference(a.data<const T>(0), a.data<const T>(1), a.data<const T>(2), a.data<T>(3), boxes, a.scalar(0)); \
        },                                                                                                                  \
        [&] {                                                                                                               \
          name##_backward(a.data<const float>(0), a.data<const float>(1), a.data<const float>(2), a.data<float>(3), boxes, a.scalar(0)); \
        });                                                                                                                 \
  }
DEFINE(box_l1)
DEFINE(box_giou)
