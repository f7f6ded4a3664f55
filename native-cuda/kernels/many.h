// One kernel call for the corresponding tensors of many parameters: (p, g, m, v), (p, g, m, v), ..., each group of one shape.
// MA-1: a tile lies within one tensor, and tiles come from the shapes alone; elementwise rules so give the same bits as when
//       each parameter has a call of its own.
#pragma once
#include <algorithm>
#include <string>
#include <vector>

#include "arguments.h"
#include "tiles.h"

/// The numbers of one update, f64 (3), which come as a tensor so that a recorded step can be replayed with others.
struct UpdateNumbers {
  double learning_rate, step, grad_scale;  // step counts from 1
};

/// The operands of a call for `names` (of one parameter) times as many parameters as it has, then those of `tail`, with the
/// shared scalars and one more scalar per parameter for each of `own`.
class ManyArguments {
 public:
  ManyArguments(const KernelCall& call, const char* kernel, const std::vector<const char*>& names, const std::vector<const char*>& shared,
                const std::vector<const char*>& own, const std::vector<const char*>& tail = {})
      : group_(static_cast<int>(names.size())), shared_(static_cast<int>(shared.size())), own_(static_cast<int>(own.size())) {
    const int grouped = call.tensors - static_cast<int>(tail.size());
    count_ = grouped / group_;
    if (grouped <= 0 || grouped % group_ != 0)
      throw std::invalid_argument(format("%s: expected a multiple of %d tensors%s%s, got %d", kernel, group_, tail.empty() ? "" : " and ", tail.empty() ? "" : tail[0], call.tensors));
    for (int i = 0; i < count_; ++i)
      for (const char* name : names) texts_.push_back(std::string(name) + std::to_string(i + 1));
    std::vector<const char*> all(shared);
    for (int i = 0; i < count_; ++i) all.insert(all.end(), own.begin(), own.end());
    std::vector<const char*> tensors;
    for (const std::string& text : texts_) tensors.push_back(text.c_str());
    tensors.insert(tensors.end(), tail.begin(), tail.end());
    arguments_.emplace_back(call, kernel, tensors, all);
    for (int i = 0; i < grouped; ++i) {
      if (i == 0) at().floating(0);
      else if (i % group_ == 0) at().same_dtype(i, 0);
      else at().like(i, i / group_ * group_);
    }
  }

  ManyArguments(const ManyArguments&) = delete;  // the names of its arguments live in it

  const Arguments& at() const { return arguments_.front(); }
  int count() const { return count_; }
  int64_t elements(int parameter) const { return at()[parameter * group_].numel; }
  template <class T> T* data(int parameter, int which) const { return at().data<T>(parameter * group_ + which); }
  /// The first operand of the tail.
  UpdateNumbers numbers() const {
    const int tail = count_ * group_;
    at().dtype(tail, DType::f64), at().count(tail, 3, "(learningRate, step, gradScale)");
    const double* const given = at().data<const double>(tail);
    if (!(given[1] >= 1)) throw std::invalid_argument(format("%s: numbers: step expected 1 or more, got %g", at().kernel(), given[1]));
    return {given[0], given[1], given[2]};
  }
  double own(int parameter, int which = 0) const { return at().scalar(shared_ + parameter * own_ + which); }

  /// body(parameter, begin, end) over the elements of all parameters.
  template <class F> void tiles(F&& body) const {
    std::vector<int64_t> first{0};
    for (int i = 0; i < count_; ++i) first.push_back(first.back() + tile_count(elements(i), kLightTile));
    parallel_tiles(first.back(), at().threads(), [&](int64_t tile) {
      const auto i = static_cast<int>(std::upper_bound(first.begin(), first.end(), tile) - first.begin() - 1);
      const int64_t begin = (tile - first[static_cast<size_t>(i)]) * kLightTile;
      body(i, begin, std::min(elements(i), begin + kLightTile));
    });
  }

 private:
  int group_, shared_, own_, count_ = 0;
  std::vector<std::string> texts_;
  std::vector<Arguments> arguments_;  // one, made once the names exist
};
