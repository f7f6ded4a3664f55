// Operands of a kernel that takes any number of tensors: x1, x2, ..., then those with names of their own.
#pragma once
#include <string>
#include <vector>

#include "arguments.h"

class ListNames {
 public:
  ListNames(int count, const std::vector<const char*>& tail) {
    for (int i = 1; i <= count; ++i) texts_.push_back(format("x%d", i));
    texts_.insert(texts_.end(), tail.begin(), tail.end());
    for (const std::string& text : texts_) list_.push_back(text.c_str());
  }
  ListNames(const ListNames&) = delete;  // the list points into the texts

  const std::vector<const char*>& list() const { return list_; }

 private:
  std::vector<std::string> texts_;
  std::vector<const char*> list_;
};
