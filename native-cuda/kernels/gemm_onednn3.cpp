// oneDNN 3: descriptors are opaque and owned by the library (oneapi/dnnl/dnnl.h of 3.8).
// Written from the header; no such library was at hand to measure. gemm.cpp therefore proves one product when it opens the library,
// and leaves f32 to dnnl_sgemm.
#include "gemm_onednn.h"

namespace {
class Dialect3 : public OneDnnDialect {
 public:
  int (*create_with_strides)(void** descriptor, int rank, const int64_t* dims, int type, const int64_t* strides);
  int (*destroy)(void* descriptor);
  int (*create)(void** primitive_descriptor, void* engine, const void* a, const void* b, const void* bias, const void* c, const void* attributes);
  int (*sum)(void* post_operations, float scale, int32_t zero_point, int type);

  Descriptor describe(const OneDnnMatrix& matrix) const override {
    // Dimensions are arrays of 12 (DNNL_MAX_NDIMS), of which `rank` count.
    int64_t dims[12] = {matrix.dims[0], matrix.dims[1]}, strides[12] = {matrix.strides[0], matrix.strides[1]};
    void* made = nullptr;
    if (create_with_strides(&made, 2, dims, static_cast<int>(matrix.type), strides) != 0) return nullptr;
    return Descriptor(made, [destroy = destroy](void* descriptor) { destroy(descriptor); });
  }

  int matmul(void** primitive_descriptor, void* engine, void* attributes, void* a, void* b, void* bias, void* c) const override {
    return create(primitive_descriptor, engine, a, b, bias, c, attributes);
  }

  int append_sum(void* post_operations) const override { return sum(post_operations, 1.0f, 0, 0 /* type of the destination */); }
};
}  // namespace

std::unique_ptr<OneDnnDialect> onednn3_dialect(void* library) {
  auto dialect = std::make_unique<Dialect3>();
  const bool complete = find_symbol(library, "dnnl_memory_desc_create_with_strides", dialect->create_with_strides) &&
                        find_symbol(library, "dnnl_memory_desc_destroy", dialect->destroy) &&
                        find_symbol(library, "dnnl_matmul_primitive_desc_create", dialect->create) &&
                        find_symbol(library, "dnnl_post_ops_append_sum", dialect->sum);
  if (!complete) return nullptr;
  return dialect;
}
