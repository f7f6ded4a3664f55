// Which library multiplies. Chosen once, at the first product (or the first question).
#include "gemm.h"

#include <dlfcn.h>

#include <cstdlib>
#include <type_traits>

#include "../common/clones.h"
#include "../common/fault.h"
#include "../common/isa.h"
#include "gemm_onednn.h"

namespace {
// The C interface of oneDNN 2 and 3, as far as we use it (oneapi/dnnl/dnnl.h); both majors agree on it.
using DnnlSgemm = int (*)(char ta, char tb, int64_t m, int64_t n, int64_t k, float alpha, const float* a, int64_t lda,
                          const float* b, int64_t ldb, float beta, float* c, int64_t ldc);
struct DnnlVersion {
  int major, minor, patch;
  const char* hash;
  unsigned cpu_runtime, gpu_runtime;
};
constexpr unsigned kRuntimeSequential = 1, kRuntimeOpenMP = 2;

/// Holds a oneDNN that has computed nothing yet to OCTAVO_ISA (dnnl_cpu_isa_t of oneapi/dnnl/dnnl_types.h). Whether it obeys.
bool hold_to_isa_limit(void* library) {
  constexpr int kDnnlIsa[] = {0, 0xe7, 0x7, 0x1};  // IsaLimit -> none, avx512_core_bf16, avx2, sse41
  const int isa = kDnnlIsa[static_cast<int>(isa_limit())];
  auto set = reinterpret_cast<int (*)(int)>(dlsym(library, "dnnl_set_max_cpu_isa"));
  return isa == 0 || (set && set(isa) == 0);
}

struct Choice {
  GemmLibrary about{"portable", "", false, "portable blocked sgemm", "widened to f32", {}};
  DnnlSgemm sgemm = nullptr;
  OneDnn* primitives = nullptr;  // of the process: never closed, like the library
  bool f32_primitives = false, bf16_primitives = false;
};

bool machine_multiplies_bf16() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512bf16");  // every machine with amx_bf16 has it too
#else
  return false;
#endif
}

/// Asks oneDNN what it has for a middling product of this type; empty when nothing fast, or nothing that computes right.
std::string proven_implementation(OneDnn& primitives, OneDnnType type) {
  return primitives.proven(type) ? primitives.implementation({false, true, 64, 64, 64, 64, 64, 64, type, type, false, false}) : "";
}

void open_primitives(Choice& choice, void* library, int major) {
  const std::string sgemm = "dnnl_sgemm", widened = "widened to f32: ";
  std::string reason;
  choice.primitives = OneDnn::open(library, major, reason).release();
  if (!choice.primitives) {
    choice.about.f32 = sgemm + "; " + reason;
    choice.about.bf16 = widened + reason;
    return;
  }
  // f32 primitives of major 3 wait until somebody has measured them against its dnnl_sgemm.
  const std::string f32 = major == 2 ? proven_implementation(*choice.primitives, OneDnnType::f32) : "";
  const std::string bf16 = machine_multiplies_bf16() ? proven_implementation(*choice.primitives, OneDnnType::bf16) : "";
  choice.f32_primitives = !f32.empty(), choice.bf16_primitives = choice.about.fast_bf16 = !bf16.empty();
  choice.about.f32 = f32.empty() ? sgemm : "primitives " + f32 + ", " + sgemm;
  choice.about.bf16 = !bf16.empty() ? "primitives " + bf16
                      : widened + (machine_multiplies_bf16() ? "oneDNN has no fast primitive" : "the processor has no avx512_bf16");
}

Choice choose() {
  Choice choice;
  const char* set = std::getenv("OCTAVO_GEMM");
  const std::string wish = set && *set ? set : "auto";
  if (wish == "portable") {
    choice.about.tried.push_back("none: OCTAVO_GEMM=portable");
    return choice;
  }
  if (wish != "auto" && wish != "onednn")
    throw CodedError("ERR_NATIVE", format("OCTAVO_GEMM expected portable, onednn or auto, got \"%s\"", wish.c_str()));
  for (const char* name : {"libdnnl.so.3", "libdnnl.so.2"}) {
    void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
      const char* reason = dlerror();
      choice.about.tried.push_back(reason ? reason : std::string(name) + ": not found");
      continue;
    }
    auto sgemm = reinterpret_cast<DnnlSgemm>(dlsym(library, "dnnl_sgemm"));
    auto version = reinterpret_cast<const DnnlVersion* (*)()>(dlsym(library, "dnnl_version"));
    if (!sgemm || !version) {
      choice.about.tried.push_back(std::string(name) + ": lacks dnnl_sgemm or dnnl_version");
      dlclose(library);
      continue;
    }
    const DnnlVersion& v = *version();
    // A thread pool of its own would split one product by the number of threads, and with it change its bits.
    if (v.cpu_runtime != kRuntimeOpenMP && v.cpu_runtime != kRuntimeSequential) {
      choice.about.tried.push_back(format("%s: built with thread runtime %u, which we cannot hold to one thread", name, v.cpu_runtime));
      dlclose(library);
      continue;
    }
    if (!hold_to_isa_limit(library)) {
      choice.about.tried.push_back(format("%s: cannot be held to OCTAVO_ISA=%s", name, isa_limit_name()));
      dlclose(library);
      continue;
    }
    choice.about.tried.push_back(std::string(name) + ": in use");
    choice.about.library = "oneDNN";
    choice.about.version = format("%d.%d.%d", v.major, v.minor, v.patch);
    choice.sgemm = sgemm;
    open_primitives(choice, library, v.major);
    return choice;
  }
  if (wish == "onednn") throw CodedError("ERR_NATIVE", "OCTAVO_GEMM=onednn, but no usable oneDNN: " + choice.about.tried.back());
  return choice;
}

const Choice& chosen() {
  static const Choice choice = choose();
  return choice;
}

// Below, packing for a primitive costs more than it saves: (1, 256) * (1024, 256)^T takes 14 us by sgemm, 34 by a primitive.
constexpr int64_t kPrimitiveRows = 16;

/// Whether a primitive is worth asking for. In f32, sgemm reads a transposed A faster (116 against 104 GFLOP/s), a primitive
/// everything else (NT 256 x 512 x 256: 114 against 109, NN 1024 x 1024 x 1024: 107 against 84; one Zen 4 core, oneDNN 2.6).
template <class In> bool primitive_wanted(const Choice& choice, bool ta, int64_t m) {
  return std::is_same_v<In, Bf16> ? choice.bf16_primitives : choice.f32_primitives && !ta && m >= kPrimitiveRows;
}

template <class T> constexpr OneDnnType type_of = std::is_same_v<T, Bf16> ? OneDnnType::bf16 : OneDnnType::f32;
}  // namespace

const GemmLibrary& gemm_library() { return chosen().about; }

void sgemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, float alpha, const float* a, int64_t lda, const float* b,
           int64_t ldb, float beta, float* c, int64_t ldc) {
  if (m == 0 || n == 0) return;
  const DnnlSgemm dnnl = chosen().sgemm;
  if (!dnnl || k == 0) return sgemm_portable(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  const int status = dnnl(ta ? 'T' : 'N', tb ? 'T' : 'N', m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  if (status != 0)
    fail("oneDNN refused sgemm %c%c (%lld, %lld, %lld) with status %d; OCTAVO_GEMM=portable avoids it", ta ? 'T' : 'N',
         tb ? 'T' : 'N', static_cast<long long>(m), static_cast<long long>(n), static_cast<long long>(k), status);
}

template <class In, class Out>
void gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const In* a, int64_t lda, const In* b, int64_t ldb, Out* c,
          int64_t ldc, const float* bias, bool add) {
  if (m == 0 || n == 0) return;
  const Choice& choice = chosen();
  if (k > 0 && primitive_wanted<In>(choice, ta, m) &&
      choice.primitives->run({ta, tb, m, n, k, lda, ldb, ldc, type_of<In>, type_of<Out>, bias != nullptr, add}, a, b, bias, c))
    return;
  if constexpr (std::is_same_v<In, Bf16>) {
    gemm_widened(ta, tb, m, n, k, a, lda, b, ldb, c, ldc, bias, add);
  } else {
    sgemm(ta, tb, m, n, k, 1.0f, a, lda, b, ldb, add ? 1.0f : 0.0f, c, ldc);
    if (bias) add_bias(c, ldc, bias, m, n);
  }
}

template void gemm<float, float>(bool, bool, int64_t, int64_t, int64_t, const float*, int64_t, const float*, int64_t, float*, int64_t, const float*, bool);
template void gemm<Bf16, float>(bool, bool, int64_t, int64_t, int64_t, const Bf16*, int64_t, const Bf16*, int64_t, float*, int64_t, const float*, bool);
template void gemm<Bf16, Bf16>(bool, bool, int64_t, int64_t, int64_t, const Bf16*, int64_t, const Bf16*, int64_t, Bf16*, int64_t, const float*, bool);

OCTAVO_CLONES void add_bias(float* c, int64_t ldc, const float* bias, int64_t rows, int64_t cols) {
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols; ++j) c[i * ldc + j] += bias[j];
}
