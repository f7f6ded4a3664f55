#include "operand_names.h"

#include <iterator>
#include <string_view>

namespace {
thread_local NotedNames* listener = nullptr;

/// Kernels with absent operands check them by themselves, without Arguments.
struct Names {
  const char *kernel, *operands[16];
};
constexpr Names kNames[] = {
    {"attention_forward", {"q", "k", "v", "keyMask", "biasTable", "y", "lse", "boundaries", "sampleIds", "queryLengths", "step"}},
    {"attention_backward", {"dy", "q", "k", "v", "keyMask", "biasTable", "y", "lse", "dq", "dk", "dv", "dbiasTable", "boundaries", "sampleIds", "queryLengths", "step"}},
    {"linear_forward", {"x", "w", "bias", "y"}},
    {"linear_backward_input", {"dy", "w", "dx"}},
    {"linear_backward_weight", {"dy", "x", "dw"}},
    {"linear_backward_bias", {"dy", "db"}},
};
}  // namespace

NotedNames::NotedNames() { listener = this; }
NotedNames::~NotedNames() { listener = nullptr; }

void note_operand_names(const std::vector<const char*>& names) {
  if (listener) listener->names_.assign(names.begin(), names.end());
}

std::string NotedNames::name(const char* kernel, int operand) const {
  const size_t at = static_cast<size_t>(operand);
  if (at < names_.size()) return names_[at];
  for (const Names& known : kNames)
    if (std::string_view(known.kernel) == kernel && at < std::size(known.operands) && known.operands[at]) return known.operands[at];
  return "operand " + std::to_string(operand);
}
