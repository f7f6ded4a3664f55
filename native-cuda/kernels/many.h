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

/// Tiles of many tensors for one team: most parameters are smaller than a tile.
class ManyTiles {
 public:
  template <class Size> ManyTiles(int count, Size&& elements) : first_{0} {
    for (int i = 0; i < count; ++i) {
      elements_.push_back(elements(i)), size_.push_back(even_tile(elements_.back(), kLightTile, 64));
      first_.push_back(first_.back() + tile_count(elements_.back(), size_.back()));
    }
  }
  int64_t tiles() const { return first_.back(); }
  /// The number of the first tile of tensor i; that of i + 1 is one more than its last.
  int64_t first(int i) const { return first_[static_cast<size_t>(i)]; }
  /// body(tile, tensor, begin, end).
  template <class F> void each(int threads, F&& body) const {
    parallel_tiles(tiles(), threads, [&](int64_t tile) {
      const auto i = static_cast<size_t>(std::upper_bound(first_.begin(), first_.end(), tile) - first_.begin() - 1);
      const int64_t begin = (tile - first_[i]) * size_[i];
      body(tile, static_cast<int>(i), begin, std::min(elements_[i], begin + size_[i]));
    });
  }

 private:
  std::vector<int64_t> elements_, size_, first_;
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
    const ManyTiles cut(count_, [&](int i) { return elements(i); });
    cut.each(at().threads(), [&](int64_t, int i, int64_t begin, int64_t end) { body(i, begin, end); });
  }

 private:
  int group_, shared_, own_, count_ = 0;
  std::vector<std::string> texts_;
  std::vector<Arguments> arguments_;  // one, made once the names exist
};
