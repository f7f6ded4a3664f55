// The entries: operands checked and named, then the plain or the fast version.
#include "attention.h"

#include <stdexcept>

#include "arguments.h"
#include "packed_products.h"
#include "registry.h"
#include "widening.h"

namespace {
struct Operands {
  const char* kernel;
  const KernelCall& call;
  DType dtype;  // of all values

  DType statistics() const { return dtype == DType::bf16 ? DType::f32 : dtype; }
  const TensorView& at(int i) const { return call[i]; }

  void expect(int i, const char* name, std::initializer_list<int64_t> dims) const { expect(i, name, dims, dtype); }
  void expect(int i, const char* name, std::initializer_list<int64_t> dims, DType type) const {
    const TensorView& t = at(i);
    bool right = t && t.dtype == type && t.rank == static_cast<int32_t>(dims.size());
    std::string wanted;
    int d = 0;
    for (int64_t dim : dims) {
      right = right && t.dim[d++] == dim;
      wanted += (wanted.empty() ? "" : ", ") + std::to_string(dim);
    }
    if (right) return;
    std::string got;
    for (d = 0; d < t.rank; ++d) got += (d ? ", " : "") + std::to_string(t.dim[d]);
    fail("%s: %s expected %s (%s), got %s (%s)", kernel, name, dtype_name(type), wanted.c_str(), t ? dtype_name(t.dtype) : "nothing", got.c_str());
  }
};

int64_t count(const char* kernel, const char* name, double value, int64_t least) {
  const int64_t whole = static_cast<int64_t>(value);
  if (whole < least || static_cast<double>(whole) != value) fail("%s: %s expected an integer of at least %lld, got %g", kernel, name, static_cast<long long>(least), value);
  return whole;
}

using Whole = long long;  // as printf knows it

/// boundaries, sampleIds, queryLengths and step start at operand `extra`, if they were passed at all.
void read_extra(const Operands& o, int extra, AttentionShape& s) {
  const char* kernel = o.kernel;
  const auto expect = [&](int i, const char* name, int64_t n) {
    if (o.at(i).dtype != DType::i32 || o.at(i).numel != n) fail("%s: %s expected i32 (%lld), got %s", kernel, name, static_cast<Whole>(n), shape_text(o.at(i)).c_str());
  };
  if (const TensorView& boundaries = o.at(extra)) {
    if (s.B != 1 || s.Nq != s.Nk) fail("%s: boundaries need B = 1 and Nq = Nk, got %lld, %lld and %lld", kernel, static_cast<Whole>(s.B), static_cast<Whole>(s.Nq), static_cast<Whole>(s.Nk));
    s.sequences = boundaries.numel - 1;
    if (s.sequences < 1) fail("%s: boundaries expected two numbers at least, got %s", kernel, shape_text(boundaries).c_str());
    expect(extra, "boundaries", s.sequences + 1);
    const int32_t* at = boundaries.as<int32_t>();
    for (int64_t i = 0; i <= s.sequences; ++i)
      if (at[i] < (i == 0 ? 0 : at[i - 1]) || at[i] > (i == 0 ? 0 : s.Nk) || (i == s.sequences && at[i] != s.Nk))
        throw std::out_of_range(format("%s: boundaries[%lld] is %d; they start at 0, never fall and end at the %lld tokens", kernel, static_cast<Whole>(i), at[i], static_cast<Whole>(s.Nk)));
  }
  if (s.dropout.p == 0) return;
  if (!o.at(extra + 1)) fail("%s: dropout needs sampleIds", kernel);
  expect(extra + 1, "sampleIds", s.sequences > 0 ? s.sequences : s.B);
  if (o.at(extra + 3)) s.dropout.step = step_of(o.at(extra + 3), kernel);
  if (!o.at(extra + 2)) return;
  expect(extra + 2, "queryLengths", s.B);
  for (int64_t b = 0; b < s.B; ++b)
    if (const int32_t n = o.at(extra + 2).as<int32_t>()[b]; n < 0 || n > s.Nq)
      throw std::out_of_range(format("%s: queryLengths[%lld] expected at most the %lld queries, got %d", kernel, static_cast<Whole>(b), static_cast<Whole>(s.Nq), n));
}

/// The scalars behind the sixth, absent in the short form.
void read_rules(const Operands& o, int extra, const TensorView& table, AttentionShape& s) {
  const char* kernel = o.kernel;
  const double* scalar = o.call.scalar + 6;
  s.window = count(kernel, "window", scalar[0], 0);
  s.group_size = count(kernel, "groupSize", scalar[1], 0);
  s.roll = scalar[2] != 0;
  s.dropout.p = scalar[3];
  s.dropout.seed = static_cast<uint64_t>(count(kernel, "seedHi", scalar[5], 0)) << 32 | static_cast<uint64_t>(count(kernel, "seedLo", scalar[4], 0));
  s.dropout.step = static_cast<uint64_t>(count(kernel, "step", scalar[6], 0));
  s.dropout.site = static_cast<uint32_t>(count(kernel, "site", scalar[7], 0));
  s.first_head = count(kernel, "firstHead", scalar[8], 0);
  if (!(s.dropout.p >= 0 && s.dropout.p <= 1 - 0x1p-32)) fail("%s: p expected within [0, 1 - 2^-32], got %g", kernel, s.dropout.p);
  if (s.window > 0 && !s.causal) fail("%s: a window needs causal", kernel);
  if (s.group_size > 0 && (s.group_size % 2 || s.H % 2 || s.Nq != s.Nk || s.Nk % s.group_size || s.window > 0))
    fail("%s: groups need an even groupSize, even heads, Nq = Nk, a multiple of groupSize, and no window; got groupSize %lld, %lld heads, %lld queries, %lld keys", kernel,
         static_cast<Whole>(s.group_size), static_cast<Whole>(s.H), static_cast<Whole>(s.Nq), static_cast<Whole>(s.Nk));
  read_extra(o, extra, s);
  if (s.sequences > 0 && s.group_size > 0) fail("%s: boundaries and groups exclude each other", kernel);
  if (table && (s.window > 0 || s.group_size > 0 || s.sequences > 0)) fail("%s: a bias table speaks of whole pages: no window, groups or boundaries with it", kernel);
}

/// q, k, v, keyMask, biasTable start at operand `first`, what is optional as a whole at `extra`. Checks everything that
/// forward and backward share.
AttentionShape read_shape(const Operands& o, int first, int extra, const TensorView& table) {
  const char* kernel = o.kernel;
  const TensorView &q = o.at(first), &k = o.at(first + 1), &mask = o.at(first + 3);
  const bool more = o.call.tensors > extra;
  if (o.call.tensors != (more ? extra + 4 : extra)) fail("%s: expected %d or %d operands, got %d", kernel, extra, extra + 4, o.call.tensors);
  if (o.call.scalars != (more ? 15 : 6)) fail("%s: expected %d scalars with %d operands, got %d", kernel, more ? 15 : 6, o.call.tensors, o.call.scalars);
  if (o.dtype != DType::f32 && o.dtype != DType::f64 && o.dtype != DType::bf16) fail("%s: q expected f32, bf16 or f64, got %s", kernel, dtype_name(o.dtype));
  if (!q || !k || q.rank != 3 || k.rank != 3) fail("%s: q and k expected (B, N, heads * width)", kernel);
  AttentionShape s{};
  s.H = count(kernel, "heads", o.call.scalar[0], 1);
  s.KV = count(kernel, "kvHeads", o.call.scalar[1], 1);
  s.causal = o.call.scalar[2] != 0;
  s.grid_h = count(kernel, "gridH", o.call.scalar[3], 0);
  s.grid_w = count(kernel, "gridW", o.call.scalar[4], 0);
  s.scale = o.call.scalar[5];
  if (s.H % s.KV) fail("%s: heads (%lld) must be a multiple of kvHeads (%lld)", kernel, static_cast<long long>(s.H), static_cast<long long>(s.KV));
  if (q.dim[2] % s.H) fail("%s: the width of q (%lld) must be a multiple of heads (%lld)", kernel, static_cast<long long>(q.dim[2]), static_cast<long long>(s.H));
  s.B = q.dim[0], s.Nq = q.dim[1], s.Nk = k.dim[1], s.K = q.dim[2] / s.H;
  o.expect(first + 1, "k", {s.B, s.Nk, s.KV * s.K});
  o.expect(first + 2, "v", {s.B, s.Nk, s.KV * s.K});
  if (mask && ((mask.dtype != DType::u8 && mask.dtype != DType::b8) || mask.numel != s.B * s.Nk))
    fail("%s: keyMask expected u8 (%lld, %lld), got %s with %lld elements", kernel, static_cast<long long>(s.B), static_cast<long long>(s.Nk), dtype_name(mask.dtype), static_cast<long long>(mask.numel));
  if (table) {
    if (s.grid_h < 1 || s.grid_w < 1 || s.Nq != s.Nk || s.Nq != 1 + s.grid_h * s.grid_w)
      fail("%s: a bias table needs Nq = Nk = 1 + gridH * gridW, got %lld, %lld and a grid of %lld x %lld", kernel, static_cast<long long>(s.Nq), static_cast<long long>(s.Nk), static_cast<long long>(s.grid_h), static_cast<long long>(s.grid_w));
    o.expect(first + 4, "biasTable", {s.table_rows(), s.H}, o.statistics());
  }
  if (more) read_rules(o, extra, table, s);
  return s;
}

template <class T, class S = T> AttentionOperands<T, S> operands(const KernelCall& call, int first, int y, int extra) {
  const auto ids = [&](int i) -> const int32_t* { return call.tensors > extra ? call[extra + i].as<int32_t>() : nullptr; };
  return {call[first].as<T>(), call[first + 1].as<T>(), call[first + 2].as<T>(), call[first + 3].as<uint8_t>(), call[first + 4].as<S>(), call[y].as<T>(), call[y + 1].as<S>(),
          ids(0), ids(1), ids(2)};
}

template <class T, class S = T> AttentionGradients<T, S> gradients(const KernelCall& call) {
  return {call[0].as<T>(), call[8].as<T>(), call[9].as<T>(), call[10].as<T>(), call[11].as<S>()};
}

#ifdef OCTAVO_PACKED_PRODUCTS
template <class T> bool packed() {
  static const bool runs = packed_products_run<T>();
  return runs;
}
#else
template <class T> bool packed() { return false; }
#endif

/// Fewer queries, as in decoding, do not repay the packing of the keys; in bf16 the other way would widen them all.
constexpr int64_t kPackedQueries = 8;
}  // namespace

OCTAVO_KERNEL_BF16(attention_forward, OwnBf16::together(0, 1, 2, 5)) {
  constexpr int kExtra = 7;
  if (call.tensors < kExtra) fail("attention_forward: expected 7 operands, got %d", call.tensors);
  if (call[0].dtype == DType::bf16 && !packed<Bf16>()) return run_widened(octavo_kernel_attention_forward, call);
  const Operands o{"attention_forward", call, call[0].dtype};
  const AttentionShape s = read_shape(o, 0, kExtra, call[4]);
  o.expect(5, "y", {s.B, s.Nq, s.H * s.K});
  o.expect(6, "lse", {s.B, s.H, s.Nq}, o.statistics());
  if (o.dtype == DType::f64) attention_forward_reference(s, operands<double>(call, 0, 5, kExtra));
  else if (call.reference) attention_forward_reference(s, operands<float>(call, 0, 5, kExtra));
#ifdef OCTAVO_PACKED_PRODUCTS
  else if (o.dtype == DType::bf16) attention_forward_packed(s, operands<Bf16, float>(call, 0, 5, kExtra), call.threads);
  else if (packed<float>() && s.Nq >= kPackedQueries) attention_forward_packed(s, operands<float>(call, 0, 5, kExtra), call.threads);
#endif
  else attention_forward(s, operands<float>(call, 0, 5, kExtra), call.threads);
}

OCTAVO_KERNEL_BF16(attention_backward, OwnBf16::together(0, 1, 2, 3, 6, 8, 9, 10)) {
  constexpr int kExtra = 12;
  if (call.tensors < kExtra) fail("attention_backward: expected 12 operands, got %d", call.tensors);
  if (call[1].dtype == DType::bf16 && !packed<Bf16>()) return run_widened(octavo_kernel_attention_backward, call);
  const Operands o{"attention_backward", call, call[1].dtype};
  const AttentionShape s = read_shape(o, 1, kExtra, call[5]);
  const std::pair<int, const char*> like_q[] = {{0, "dy"}, {6, "y"}, {8, "dq"}}, like_k[] = {{9, "dk"}, {10, "dv"}};
  for (const auto& [i, name] : like_q) o.expect(i, name, {s.B, s.Nq, s.H * s.K});
  for (const auto& [i, name] : like_k) o.expect(i, name, {s.B, s.Nk, s.KV * s.K});
  o.expect(7, "lse", {s.B, s.H, s.Nq}, o.statistics());
  if (call[11]) {
    if (!call[5]) fail("attention_backward: dbiasTable without biasTable");
    o.expect(11, "dbiasTable", {s.table_rows(), s.H}, o.statistics());
  }
  if (o.dtype == DType::f64) attention_backward_reference(s, operands<double>(call, 1, 6, kExtra), gradients<double>(call));
  else if (call.reference) attention_backward_reference(s, operands<float>(call, 1, 6, kExtra), gradients<float>(call));
#ifdef OCTAVO_PACKED_PRODUCTS
  else if (o.dtype == DType::bf16) attention_backward_packed(s, operands<Bf16, float>(call, 1, 6, kExtra), gradients<Bf16, float>(call), call.threads);
  else if (packed<float>() && s.Nq >= kPackedQueries) attention_backward_packed(s, operands<float>(call, 1, 6, kExtra), gradients<float>(call), call.threads);
#endif
  else attention_backward(s, operands<float>(call, 1, 6, kExtra), gradients<float>(call), call.threads);
}
