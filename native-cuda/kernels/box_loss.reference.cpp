#include "box_loss.h"

#include <algorithm>
#include <cmath>

template <class T> static constexpr T kSmallestSide = static_cast<T>(1e-6);

/// One axis of two boxes: extents and their slopes by the two edges of pred. A tie counts as pred's edge.
template <class T> struct Axis {
  T pred_side, target_side;
  T shared, hull;
  T shared_by_low, shared_by_high, hull_by_low, hull_by_high;
};

template <class T> static Axis<T> axis(T pred_centre, T pred_side, T target_centre, T target_side) {
  const T p = std::max(pred_side, kSmallestSide<T>), t = std::max(target_side, kSmallestSide<T>);
  const T p_low = pred_centre - p / 2, p_high = pred_centre + p / 2;
  const T t_low = target_centre - t / 2, t_high = target_centre + t / 2;
  const T overlap = std::min(p_high, t_high) - std::max(p_low, t_low);
  const T touching = overlap > 0 ? 1 : 0;
  return {p, t, std::max(overlap, T(0)), std::max(p_high, t_high) - std::min(p_low, t_low),
          p_low >= t_low ? -touching : 0, p_high <= t_high ? touching : 0,
          T(p_low <= t_low ? -1 : 0), T(p_high >= t_high ? 1 : 0)};
}

template <class T> double box_l1_forward_reference(const T* pred, const T* target, int64_t boxes, double weight) {
  double total = 0;
  for (int64_t i = 0; i < 4 * boxes; ++i) total += std::abs(pred[i] - target[i]);
  return weight * total;
}

template <class T> void box_l1_backward_reference(const T* dloss, const T* pred, const T* target, T* dpred, int64_t boxes, double weight) {
  const T scale = dloss[0] * static_cast<T>(weight);
  for (int64_t i = 0; i < 4 * boxes; ++i) {
    const T d = pred[i] - target[i];
    dpred[i] = d > 0 ? scale : d < 0 ? -scale : 0;
  }
}

template <class T> double box_giou_forward_reference(const T* pred, const T* target, int64_t boxes, double weight) {
  double total = 0;
  for (int64_t k = 0; k < boxes; ++k, pred += 4, target += 4) {
    const Axis<T> x = axis(pred[0], pred[2], target[0], target[2]), y = axis(pred[1], pred[3], target[1], target[3]);
    const T shared = x.shared * y.shared, hull = x.hull * y.hull;
    const T joined = x.pred_side * y.pred_side + x.target_side * y.target_side - shared;
    total += 1 - (shared / joined - (hull - joined) / hull);
  }
  return weight * total;
}

template <class T> void box_giou_backward_reference(const T* dloss, const T* pred, const T* target, T* dpred, int64_t boxes, double weight) {
  const T scale = -dloss[0] * static_cast<T>(weight);  // the loss falls as GIoU grows
  for (int64_t k = 0; k < boxes; ++k, pred += 4, target += 4, dpred += 4) {
    const Axis<T> x = axis(pred[0], pred[2], target[0], target[2]), y = axis(pred[1], pred[3], target[1], target[3]);
    const T shared = x.shared * y.shared, hull = x.hull * y.hull;
    const T joined = x.pred_side * y.pred_side + x.target_side * y.target_side - shared;
    // GIoU = shared / joined - 1 + joined / hull, and joined itself falls with shared
    const T by_joined = 1 / hull - shared / (joined * joined);
    const T by_shared = 1 / joined - by_joined, by_hull = -joined / (hull * hull);
    const bool width_free = pred[2] > kSmallestSide<T>, height_free = pred[3] > kSmallestSide<T>;
    const auto slopes = [&](const Axis<T>& along, const Axis<T>& across, bool free, T& by_centre, T& by_side) {
      const T low = by_shared * across.shared * along.shared_by_low + by_hull * across.hull * along.hull_by_low;
      const T high = by_shared * across.shared * along.shared_by_high + by_hull * across.hull * along.hull_by_high;
      by_centre = scale * (low + high);
      by_side = free ? scale * ((high - low) / 2 + by_joined * across.pred_side) : 0;
    };
    slopes(x, y, width_free, dpred[0], dpred[2]);
    slopes(y, x, height_free, dpred[1], dpred[3]);
  }
}

#define INSTANTIATE(T)                                                                                \
  template double box_l1_forward_reference(const T*, const T*, int64_t, double);                      \
  template void box_l1_backward_reference(const T*, const T*, const T*, T*, int64_t, double);         \
  template double box_giou_forward_reference(const T*, const T*, int64_t, double);                    \
  template void box_giou_backward_reference(const T*, const T*, const T*, T*, int64_t, double);
INSTANTIATE(float)
INSTANTIATE(double)
