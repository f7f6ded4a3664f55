// One kernel call for the corresponding tensors of many parameters: (p, g, m, v), (p, g, m, v), ..., each group of one shape.
// MA-1: a tile lies within one tensor, and tiles come from the shapes alone; elementwise rules so give the same bits as when
//       each parameter has a call of its own.
#pragma once
#include <algorithm>
#include <string>
#include <vector>

#include "arguments.h"
#include "tiles.h"

/// The operands of a call for `names` (of one parameter) times as many parameters as it has, with the shared scalars and
/// one more scalar per parameter for each of `own`.
class ManyArguments {
 public:
  ManyArguments(const KernelCall& call, const char* kernel, const std::vector<const char*>& names, const std::vector<const char*>& shared,
                const std::vector<const char*>& own)
      : group_(static_cast<int>(names.size())), shared_(static_cast<int>(shared.size())), own_(static_cast<int>(own.size())) {
    count_ = call.tensors / group_;
    if (count_ == 0 || call.tensors % group_ != 0)
      throw std::invalid_argument(format("%s: expected a multiple of %d tensors, got %d", kernel, group_, call.tensors));
    for (int i = 0; i < count_; ++i)
      for (const char* name : names) texts_.push_back(std::string(name) + std::to_string(i + 1));
    std::vector<const char*> all(shared);
    for (int i = 0; i < count_; ++i) all.insert(all.end(), own.begin(), own.end());
    std::vector<const char*> tensors;
    for (const std::string& text : texts_) tensors.push_back(text.c_str());
    arguments_.emplace_back(call, kernel, tensors, all);
    for (int i = 0; i < call.tensors; ++i) {
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
