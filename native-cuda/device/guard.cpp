#include "guard.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "../common/bf16.h"
#include "../common/clones.h"
#include "../kernels/arguments.h"
#include "../kernels/operand_names.h"
#include "../kernels/tiles.h"

namespace {
/// Where the first NaN or +Infinity stands, and the first -Infinity; -1: nowhere.
struct Finding {
  int64_t wild = -1, minus = -1;
};

// Exponents of nothing but ones.
template <class Bits> constexpr Bits kExponent = 0;
template <> constexpr uint16_t kExponent<uint16_t> = 0x7f80;
template <> constexpr uint32_t kExponent<uint32_t> = 0x7f800000;
template <> constexpr uint64_t kExponent<uint64_t> = 0x7ff0000000000000;

#define ANY_ODD(Bits)                                                                            \
  OCTAVO_CLONES bool any_odd(const Bits* x, int64_t n) {                                         \
    Bits odd = 0;                                                                                \
    for (int64_t i = 0; i < n; ++i) odd |= (x[i] & kExponent<Bits>) == kExponent<Bits>;          \
    return odd;                                                                                  \
  }
ANY_ODD(uint16_t)
ANY_ODD(uint32_t)
ANY_ODD(uint64_t)
#undef ANY_ODD

template <class Bits> Finding find(const Bits* x, int64_t n, int threads) {
  constexpr Bits kMinus = kExponent<Bits> | static_cast<Bits>(Bits{1} << (8 * sizeof(Bits) - 1));
  const int64_t size = even_tile(n, kLightTile, 64);
  std::vector<Finding> found(static_cast<size_t>(tile_count(n, size)));
  element_tiles<kLightTile>(n, threads, [&](int64_t begin, int64_t end) {
    if (!any_odd(x + begin, end - begin)) return;
    Finding& here = found[static_cast<size_t>(begin / size)];
    for (int64_t i = begin; i < end; ++i) {
      if ((x[i] & kExponent<Bits>) != kExponent<Bits>) continue;
      int64_t& first = x[i] == kMinus ? here.minus : here.wild;
      if (first < 0) first = i;
    }
  });
  Finding all;
  for (const Finding& f : found) {
    if (all.wild < 0) all.wild = f.wild;
    if (all.minus < 0) all.minus = f.minus;
  }
  return all;
}

Finding look(const TensorView& t, int threads) {
  if (!t) return {};
  if (t.dtype == DType::f64) return find(t.as<uint64_t>(), t.numel, threads);
  if (t.dtype == DType::f32) return find(t.as<uint32_t>(), t.numel, threads);
  if (t.dtype == DType::bf16) return find(t.as<uint16_t>(), t.numel, threads);
  return {};
}

std::string place(const TensorView& t, int64_t at) {
  std::string text;
  for (int d = t.rank - 1; d >= 0; at /= t.dim[d--]) text = std::to_string(at % t.dim[d]) + (text.empty() ? "" : ", ") + text;
  return "[" + text + "]";
}

const char* word(double x) { return std::isnan(x) ? "NaN" : x < 0 ? "-Infinity" : "Infinity"; }

const char* value(const TensorView& t, int64_t at) {
  return word(t.dtype == DType::f64 ? t.as<double>()[at] : t.dtype == DType::f32 ? t.as<float>()[at] : widen(t.as<Bf16>()[at]));
}

bool may_yield_minus(const char* kernel) {
  for (const char* name : {"fill", "logsumexp_forward", "attention_forward"})
    if (std::string_view(kernel) == name) return true;
  return false;
}

std::string about_inputs(const char* kernel, const KernelCall& call, const std::vector<Finding>& before, const NotedNames& noted) {
  for (int k = 0; k < call.scalars; ++k)
    if (!std::isfinite(call.scalar[k])) return format("scalar %d is %s", k, word(call.scalar[k]));
  for (size_t i = 0; i < before.size(); ++i)
    if (before[i].wild >= 0 || before[i].minus >= 0)
      return format("%s was not finite before, at %s%s", noted.name(kernel, static_cast<int>(i)).c_str(),
                    place(call[static_cast<int>(i)], before[i].wild >= 0 ? before[i].wild : before[i].minus).c_str(),
                    before[i].wild >= 0 ? ": it was computed before the guard was on" : ", where it held -Infinity");
  return "its inputs were finite";
}
}  // namespace

bool guard_from_environment() {
  const char* set = std::getenv("OCTAVO_GUARD");
  const std::string wish = set ? set : "";
  if (wish.empty() || wish == "0" || wish == "1") return wish == "1";
  throw CodedError("ERR_NATIVE", format("OCTAVO_GUARD expected 1 or 0, got \"%s\"", wish.c_str()));
}

void guard_run(int kernel, const KernelCall& call) {
  std::vector<Finding> before;
  bool minus = may_yield_minus(kernel_name(kernel));
  for (int i = 0; i < call.tensors; ++i) before.push_back(look(call[i], call.threads)), minus = minus || before.back().minus >= 0;
  const NotedNames noted;
  run_kernel(kernel, call);
  for (int i = 0; i < call.tensors; ++i) {
    const Finding now = look(call[i], call.threads), &then = before[static_cast<size_t>(i)];
    const int64_t at = now.wild >= 0 && then.wild < 0 ? now.wild : now.minus >= 0 && !minus ? now.minus : -1;
    if (at < 0) continue;
    const char* name = kernel_name(kernel);
    fail("%s%s is %s; %s", noted.name(name, i).c_str(), place(call[i], at).c_str(), value(call[i], at), about_inputs(name, call, before, noted).c_str());
  }
}

void guard_outside(const char* what, const TensorView& tensor) {
  const Finding found = look(tensor, 1);
  if (found.wild >= 0)
    fail("element %s of %s is %s; it came from outside by %s", place(tensor, found.wild).c_str(), shape_text(tensor).c_str(), value(tensor, found.wild), what);
}

void guard_fill(void* data, size_t bytes) { std::memset(data, 0x3d, bytes); }
