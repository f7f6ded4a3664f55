// Which library multiplies. Chosen once, at the first product (or the first question).
#include "gemm.h"

#include <dlfcn.h>

#include <cstdlib>

#include "../common/fault.h"
#include "../common/isa.h"

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
  GemmLibrary about{"portable", "", {}};
  DnnlSgemm dnnl = nullptr;
};

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
    choice.dnnl = sgemm;
    return choice;
  }
  if (wish == "onednn") throw CodedError("ERR_NATIVE", "OCTAVO_GEMM=onednn, but no usable oneDNN: " + choice.about.tried.back());
  return choice;
}

const Choice& chosen() {
  static const Choice choice = choose();
  return choice;
}
}  // namespace

const GemmLibrary& gemm_library() { return chosen().about; }

void sgemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, float alpha, const float* a, int64_t lda, const float* b,
           int64_t ldb, float beta, float* c, int64_t ldc) {
  if (m == 0 || n == 0) return;
  const DnnlSgemm dnnl = chosen().dnnl;
  if (!dnnl || k == 0) return sgemm_portable(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  const int status = dnnl(ta ? 'T' : 'N', tb ? 'T' : 'N', m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
  if (status != 0)
    fail("oneDNN refused sgemm %c%c (%lld, %lld, %lld) with status %d; OCTAVO_GEMM=portable avoids it", ta ? 'T' : 'N',
         tb ? 'T' : 'N', static_cast<long long>(m), static_cast<long long>(n), static_cast<long long>(k), status);
}
