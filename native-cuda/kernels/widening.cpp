#include "widening.h"

#include <vector>

#include "../common/bf16.h"
#include "../common/scratch.h"
#include "tiles.h"

namespace {
struct Widened {
  TensorView narrow;
  int64_t start;  // in scratch

  bool holds(const TensorView& t) const { return narrow.data == t.data && narrow.numel == t.numel; }
};
}  // namespace

void run_widened(KernelFn kernel, const KernelCall& call) {
  std::vector<TensorView> operands(call.tensor, call.tensor + call.tensors);
  std::vector<Widened> widened;
  std::vector<int64_t> start(operands.size());
  int64_t total = 0;
  for (size_t i = 0; i < operands.size(); ++i) {
    const TensorView& t = operands[i];
    if (!t || t.dtype != DType::bf16) continue;
    const auto known = std::find_if(widened.begin(), widened.end(), [&](const Widened& w) { return w.holds(t); });
    start[i] = known == widened.end() ? total : known->start;
    if (known != widened.end()) continue;
    widened.push_back({t, total});
    total += tile_count(t.numel + 1, 16) * 16;  // an empty tensor has an address too
  }
  float* memory = thread_scratch<Widened>(total);
  for (size_t i = 0; i < operands.size(); ++i)
    if (operands[i] && operands[i].dtype == DType::bf16) operands[i].dtype = DType::f32, operands[i].data = memory + start[i];

  const auto each_tile = [&](auto body) {
    for (const Widened& w : widened)
      element_tiles<kLightTile>(w.narrow.numel, call.threads, [&](int64_t begin, int64_t end) { body(w.narrow.as<Bf16>() + begin, memory + w.start + begin, end - begin); });
  };
  each_tile([](const Bf16* narrowed, float* wide, int64_t n) { widen(narrowed, wide, n); });
  KernelCall wide = call;
  wide.tensor = operands.data();
  kernel(wide);
  each_tile([](Bf16* narrowed, const float* wide, int64_t n) { narrow(wide, narrowed, n); });
}
