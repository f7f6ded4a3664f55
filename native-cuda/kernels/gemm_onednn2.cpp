// oneDNN 2: a memory descriptor and an operation descriptor are structs that the caller owns (oneapi/dnnl/dnnl_types.h).
// They are never looked into here, only filled and read by the library, so they are rooms with space to spare: 696 and 2800
// bytes in 2.6.
#include <array>

#include "gemm_onednn.h"

namespace {
struct alignas(64) MemoryRoom {
  std::array<unsigned char, 2048> bytes{};
};
struct alignas(64) OperationRoom {
  std::array<unsigned char, 8192> bytes{};
};

class Dialect2 : public OneDnnDialect {
 public:
  int (*init_by_strides)(void* descriptor, int rank, const int64_t* dims, int type, const int64_t* strides);
  int (*matmul_init)(void* operation, const void* a, const void* b, const void* bias, const void* c);
  int (*create)(void** primitive_descriptor, const void* operation, const void* attributes, void* engine, const void* hint);
  int (*sum)(void* post_operations, float scale);

  Descriptor describe(const OneDnnMatrix& matrix) const override {
    auto room = std::make_shared<MemoryRoom>();
    // Dimensions are arrays of 12 (DNNL_MAX_NDIMS), of which `rank` count.
    int64_t dims[12] = {matrix.dims[0], matrix.dims[1]}, strides[12] = {matrix.strides[0], matrix.strides[1]};
    if (init_by_strides(room.get(), 2, dims, static_cast<int>(matrix.type), strides) != 0) return nullptr;
    return room;
  }

  int matmul(void** primitive_descriptor, void* engine, void* attributes, void* a, void* b, void* bias, void* c) const override {
    OperationRoom operation;
    const int status = matmul_init(&operation, a, b, bias, c);
    return status != 0 ? status : create(primitive_descriptor, &operation, attributes, engine, nullptr);
  }

  int append_sum(void* post_operations) const override { return sum(post_operations, 1.0f); }
};
}  // namespace

std::unique_ptr<OneDnnDialect> onednn2_dialect(void* library) {
  auto dialect = std::make_unique<Dialect2>();
  const bool complete = find_symbol(library, "dnnl_memory_desc_init_by_strides", dialect->init_by_strides) &&
                        find_symbol(library, "dnnl_matmul_desc_init", dialect->matmul_init) &&
                        find_symbol(library, "dnnl_primitive_desc_create", dialect->create) &&
                        find_symbol(library, "dnnl_post_ops_append_sum", dialect->sum);
  if (!complete) return nullptr;
  return dialect;
}
