#include "gemm_onednn.h"

#ifdef _OPENMP
#include <omp.h>
#endif

#include <list>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "../common/bf16.h"
#include "../common/fault.h"
#include "../common/scratch.h"

namespace {
// Prepared products, about 20 KB each: every tile of a model at every length of its texts (tiny: 20 lengths x 70). One costs 0.2 to
// 1.5 ms to prepare, more than it takes to run.
constexpr size_t kKept = 4096;

// Numbers of oneapi/dnnl/dnnl_types.h, the same in majors 2 and 3.
constexpr int kCpu = 1, kUserScratchpad = 1, kQueryImplementation = 8, kQueryScratchpad = 136;
enum Argument : int { kA = 1, kC = 17, kB = 33, kBias = 41, kScratchpad = 80 };
struct ExecuteArgument {
  int argument;
  void* memory;
};

/// oneDNN cuts a primitive for as many threads as its creator may have.
struct OneThread {
#ifdef _OPENMP
  const int before = omp_get_max_threads();
  OneThread() { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before); }
#endif
};

struct HashProduct {
  size_t operator()(const OneDnnProduct& p) const {
    size_t hash = static_cast<size_t>(p.in) << 5 | static_cast<size_t>(p.out) << 4 | p.ta << 3 | p.tb << 2 | p.bias << 1 | p.add;
    for (int64_t number : {p.m, p.n, p.k, p.lda, p.ldb, p.ldc}) hash = (hash ^ static_cast<size_t>(number)) * 0x9E3779B97F4A7C15u, hash ^= hash >> 29;
    return hash;
  }
};
}  // namespace

/// The calls that both majors share.
struct OneDnn::Calls {
  int (*engine_create)(void** engine, int kind, size_t index);
  int (*stream_create)(void** stream, void* engine, unsigned flags);
  int (*attr_create)(void** attributes);
  int (*attr_destroy)(void* attributes);
  int (*attr_set_scratchpad_mode)(void* attributes, int mode);
  int (*attr_set_post_ops)(void* attributes, const void* operations);
  int (*post_ops_create)(void** operations);
  int (*post_ops_destroy)(void* operations);
  int (*desc_query)(const void* primitive_descriptor, int what, int index, void* result);
  const void* (*desc_query_md)(const void* primitive_descriptor, int what, int index);
  int (*desc_destroy)(void* primitive_descriptor);
  size_t (*md_size)(const void* memory_descriptor);
  int (*primitive_create)(void** primitive, const void* primitive_descriptor);
  int (*primitive_execute)(const void* primitive, void* stream, int arguments, const ExecuteArgument* argument);
  int (*primitive_destroy)(void* primitive);
  int (*memory_create)(void** memory, const void* memory_descriptor, void* engine, void* data);
  int (*memory_set_data_handle)(void* memory, void* data);
  int (*memory_destroy)(void* memory);
  void *engine = nullptr, *stream = nullptr;  // for the life of the process, like the library

  bool complete(void* library) {
    return find_symbol(library, "dnnl_engine_create", engine_create) && find_symbol(library, "dnnl_stream_create", stream_create) &&
           find_symbol(library, "dnnl_primitive_attr_create", attr_create) && find_symbol(library, "dnnl_primitive_attr_destroy", attr_destroy) &&
           find_symbol(library, "dnnl_primitive_attr_set_scratchpad_mode", attr_set_scratchpad_mode) &&
           find_symbol(library, "dnnl_primitive_attr_set_post_ops", attr_set_post_ops) && find_symbol(library, "dnnl_post_ops_create", post_ops_create) &&
           find_symbol(library, "dnnl_post_ops_destroy", post_ops_destroy) && find_symbol(library, "dnnl_primitive_desc_query", desc_query) &&
           find_symbol(library, "dnnl_primitive_desc_query_md", desc_query_md) && find_symbol(library, "dnnl_primitive_desc_destroy", desc_destroy) &&
           find_symbol(library, "dnnl_memory_desc_get_size", md_size) && find_symbol(library, "dnnl_primitive_create", primitive_create) &&
           find_symbol(library, "dnnl_primitive_execute", primitive_execute) && find_symbol(library, "dnnl_primitive_destroy", primitive_destroy) &&
           find_symbol(library, "dnnl_memory_create", memory_create) && find_symbol(library, "dnnl_memory_set_data_handle", memory_set_data_handle) &&
           find_symbol(library, "dnnl_memory_destroy", memory_destroy);
  }
};

/// A primitive and the memory objects of one execution at a time. Without a primitive: known to have no fast implementation.
struct OneDnn::Prepared {
  const Calls& calls;
  OneDnnProduct product;
  std::string implementation;
  void *primitive = nullptr, *a = nullptr, *b = nullptr, *bias = nullptr, *c = nullptr, *scratchpad = nullptr;
  size_t scratch_bytes = 0;

  Prepared(const Calls& calls, const OneDnnProduct& product) : calls(calls), product(product) {}
  Prepared(const Prepared&) = delete;
  ~Prepared() {
    for (void* memory : {a, b, bias, c, scratchpad})
      if (memory) calls.memory_destroy(memory);
    if (primitive) calls.primitive_destroy(primitive);
  }
};

/// Prepared products that nobody is using, most recently used first.
struct OneDnn::Shelf {
  std::mutex mutex;
  std::list<std::unique_ptr<Prepared>> idle;
  std::unordered_multimap<OneDnnProduct, decltype(idle)::iterator, HashProduct> by_product;

  std::unique_ptr<Prepared> take(const OneDnnProduct& product) {
    std::lock_guard lock(mutex);
    const auto found = by_product.find(product);
    if (found == by_product.end()) return nullptr;
    std::unique_ptr<Prepared> prepared = std::move(*found->second);
    idle.erase(found->second);
    by_product.erase(found);
    return prepared;
  }

  void give(std::unique_ptr<Prepared> prepared) {
    std::unique_ptr<Prepared> surplus;  // ends after the lock
    std::lock_guard lock(mutex);
    idle.push_front(std::move(prepared));
    by_product.emplace(idle.front()->product, idle.begin());
    if (idle.size() <= kKept) return;
    const auto last = std::prev(idle.end());
    auto [first, end] = by_product.equal_range((*last)->product);
    while (first != end && first->second != last) ++first;
    by_product.erase(first);
    surplus = std::move(*last);
    idle.erase(last);
  }
};

OneDnn::OneDnn(std::unique_ptr<Calls> calls, std::unique_ptr<OneDnnDialect> dialect)
    : calls_(std::move(calls)), dialect_(std::move(dialect)), shelf_(std::make_unique<Shelf>()) {}
OneDnn::~OneDnn() = default;

std::unique_ptr<OneDnn> OneDnn::open(void* library, int major, std::string& reason) {
  auto calls = std::make_unique<Calls>();
  auto dialect = major == 2 ? onednn2_dialect(library) : major == 3 ? onednn3_dialect(library) : nullptr;
  if (!dialect || !calls->complete(library)) {
    reason = format("oneDNN %d has no matmul primitives that we know how to call", major);
    return nullptr;
  }
  if (calls->engine_create(&calls->engine, kCpu, 0) != 0 || calls->stream_create(&calls->stream, calls->engine, 1 /* in order */) != 0) {
    reason = "oneDNN made no engine for the CPU";
    return nullptr;
  }
  return std::unique_ptr<OneDnn>(new OneDnn(std::move(calls), std::move(dialect)));
}

std::unique_ptr<OneDnn::Prepared> OneDnn::prepare(const OneDnnProduct& p) {
  const Calls& dnnl = *calls_;
  auto prepared = std::make_unique<Prepared>(dnnl, p);
  const auto a = dialect_->describe({{p.m, p.k}, {p.ta ? 1 : p.lda, p.ta ? p.lda : 1}, p.in});
  const auto b = dialect_->describe({{p.k, p.n}, {p.tb ? 1 : p.ldb, p.tb ? p.ldb : 1}, p.in});
  const auto c = dialect_->describe({{p.m, p.n}, {p.ldc, 1}, p.out});
  const auto bias = p.bias ? dialect_->describe({{1, p.n}, {p.n, 1}, OneDnnType::f32}) : nullptr;
  if (!a || !b || !c || (p.bias && !bias)) return prepared;

  [[maybe_unused]] const OneThread one;
  void *attributes = nullptr, *operations = nullptr, *described = nullptr;
  bool made = dnnl.attr_create(&attributes) == 0 && dnnl.attr_set_scratchpad_mode(attributes, kUserScratchpad) == 0;
  if (made && p.add)
    made = dnnl.post_ops_create(&operations) == 0 && dialect_->append_sum(operations) == 0 && dnnl.attr_set_post_ops(attributes, operations) == 0;
  made = made && dialect_->matmul(&described, dnnl.engine, attributes, a.get(), b.get(), bias.get(), c.get()) == 0;
  const char* name = nullptr;
  made = made && dnnl.desc_query(described, kQueryImplementation, 0, &name) == 0 && name;
  // "brg...": blocked kernels made for this shape. "gemm:jit": any strides, as fast as dnnl_sgemm, so of use for bf16 alone.
  const std::string implementation = made ? name : "";
  const bool fast = implementation.rfind("brg", 0) == 0 || (p.in == OneDnnType::bf16 && implementation.rfind("gemm:jit", 0) == 0);
  if (made && fast) {
    const void* scratchpad = dnnl.desc_query_md(described, kQueryScratchpad, 0);
    prepared->scratch_bytes = scratchpad ? dnnl.md_size(scratchpad) : 0;
    made = dnnl.memory_create(&prepared->a, a.get(), dnnl.engine, nullptr) == 0 && dnnl.memory_create(&prepared->b, b.get(), dnnl.engine, nullptr) == 0 &&
           dnnl.memory_create(&prepared->c, c.get(), dnnl.engine, nullptr) == 0 &&
           (!p.bias || dnnl.memory_create(&prepared->bias, bias.get(), dnnl.engine, nullptr) == 0) &&
           (!prepared->scratch_bytes || dnnl.memory_create(&prepared->scratchpad, scratchpad, dnnl.engine, nullptr) == 0);
    if (made && dnnl.primitive_create(&prepared->primitive, described) == 0) prepared->implementation = implementation;
  }
  if (described) dnnl.desc_destroy(described);
  if (operations) dnnl.post_ops_destroy(operations);
  if (attributes) dnnl.attr_destroy(attributes);
  return prepared;
}

void OneDnn::execute(Prepared& prepared, const void* a, const void* b, const float* bias, void* c) {
  thread_local Scratch<unsigned char> scratch;
  ExecuteArgument arguments[5];
  int count = 0, status = 0;
  const auto bind = [&](int argument, void* memory, const void* data) {
    if (status == 0) status = calls_->memory_set_data_handle(memory, const_cast<void*>(data));
    arguments[count++] = {argument, memory};
  };
  bind(kA, prepared.a, a), bind(kB, prepared.b, b), bind(kC, prepared.c, c);
  if (prepared.bias) bind(kBias, prepared.bias, bias);
  if (prepared.scratchpad) bind(kScratchpad, prepared.scratchpad, scratch.grown(static_cast<int64_t>(prepared.scratch_bytes)));
  if (status == 0) status = calls_->primitive_execute(prepared.primitive, calls_->stream, count, arguments);
  const OneDnnProduct& p = prepared.product;
  if (status != 0)
    fail("oneDNN's %s failed on (%lld, %lld, %lld) with status %d; OCTAVO_GEMM=portable avoids it", prepared.implementation.c_str(),
         static_cast<long long>(p.m), static_cast<long long>(p.n), static_cast<long long>(p.k), status);
}

bool OneDnn::run(const OneDnnProduct& product, const void* a, const void* b, const float* bias, void* c) {
  auto prepared = shelf_->take(product);
  if (!prepared) prepared = prepare(product);
  const bool able = prepared->primitive != nullptr;
  if (able) execute(*prepared, a, b, bias, c);
  shelf_->give(std::move(prepared));
  return able;
}

std::string OneDnn::implementation(const OneDnnProduct& product) { return prepare(product)->implementation; }

bool OneDnn::proven(OneDnnType in) {
  // Small whole numbers: exact in bf16, and so are their sums.
  constexpr int64_t m = 16, n = 24, k = 32;
  const auto number = [](int64_t i) { return static_cast<float>(i * 7 % 5 - 2); };
  std::vector<float> wide_a(m * k), wide_b(n * k), c(m * n), bias(n, 3.0f);
  std::vector<Bf16> narrow_a(m * k), narrow_b(n * k);
  for (int64_t i = 0; i < m * k; ++i) narrow_a[i] = narrow(wide_a[i] = number(i));
  for (int64_t i = 0; i < n * k; ++i) narrow_b[i] = narrow(wide_b[i] = number(i + 3));
  const bool bf16 = in == OneDnnType::bf16;
  const void *a = bf16 ? static_cast<void*>(narrow_a.data()) : wide_a.data(), *b = bf16 ? static_cast<void*>(narrow_b.data()) : wide_b.data();
  if (!run({false, true, m, n, k, k, k, n, in, OneDnnType::f32, true, false}, a, b, bias.data(), c.data())) return false;
  if (!run({false, true, m, n, k, k, k, n, in, OneDnnType::f32, false, true}, a, b, nullptr, c.data())) return false;
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      float sum = 0;
      for (int64_t l = 0; l < k; ++l) sum += wide_a[i * k + l] * wide_b[j * k + l];
      if (c[i * n + j] != 2 * sum + 3.0f) return false;
    }
  return true;
}
