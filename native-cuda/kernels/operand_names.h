// What operands are called: for messages about a kernel that has run.
#pragma once
#include <string>
#include <vector>

/// While one lives, it keeps the names that the kernels of this thread give their operands.
class NotedNames {
 public:
  NotedNames();
  ~NotedNames();
  NotedNames(const NotedNames&) = delete;
  NotedNames& operator=(const NotedNames&) = delete;

  /// "y"; "operand 3" where nobody said.
  std::string name(const char* kernel, int operand) const;

 private:
  friend void note_operand_names(const std::vector<const char*>& names);
  std::vector<std::string> names_;
};

/// Called by Arguments. Nothing is kept unless somebody listens.
void note_operand_names(const std::vector<const char*>& names);
