// oneDNN's matmul primitive called as its documentation says, with nothing in between. Two kinds of lines on standard input:
//   make TA TB M N K bf16|f32 bf16|f32 BIAS THREADS   prepares a product of dense row-major matrices; answers its implementation
//   run TIMES                                         executes it; answers seconds and seconds of processor time per execution
// Declarations of its own, of majors 2 and 3 (oneapi/dnnl/dnnl.h). g++ -O2 -fopenmp raw_matmul.cpp -ldl
#include <dlfcn.h>
#include <omp.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <vector>

static void* library;
template <class F> F* call(const char* name) {
  void* found = dlsym(library, name);
  if (!found) std::fprintf(stderr, "oneDNN lacks %s\n", name), std::exit(3);
  return reinterpret_cast<F*>(found);
}
static void check(int status, const char* what) {
  if (status != 0) std::fprintf(stderr, "%s: status %d\n", what, status), std::exit(4);
}

struct Version { int major, minor, patch; };
struct Argument { int which; void* memory; };
struct Room { alignas(64) unsigned char bytes[8192]; };  // oneDNN 2 fills descriptors that the caller owns

static int major_version;
static void *engine, *stream;

static void* describe(int64_t rows, int64_t cols, bool transposed, int type) {
  int64_t dims[12] = {rows, cols}, strides[12] = {transposed ? 1 : cols, transposed ? rows : 1};
  void* made = nullptr;
  if (major_version == 2) {
    made = new Room{};
    check(call<int(void*, int, const int64_t*, int, const int64_t*)>("dnnl_memory_desc_init_by_strides")(made, 2, dims, type, strides), "descriptor");
  } else {
    check(call<int(void**, int, const int64_t*, int, const int64_t*)>("dnnl_memory_desc_create_with_strides")(&made, 2, dims, type, strides), "descriptor");
  }
  return made;
}

struct Product {
  void* primitive = nullptr;
  Argument arguments[4];
  int count = 0;
};

static void add(Product& product, int which, void* descriptor, size_t elements, int type) {
  static std::vector<void*> kept;  // until the program ends: a handful of products
  void *data = nullptr, *memory = nullptr;
  if (posix_memalign(&data, 64, elements * 4 + 64) != 0) std::exit(5);
  for (size_t i = 0; i < elements; ++i) {
    const float value = static_cast<float>((i * 7919) % 1000) / 1000 - 0.5f;
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    if (type == 3) static_cast<uint32_t*>(data)[i] = bits;
    else static_cast<uint16_t*>(data)[i] = static_cast<uint16_t>(bits >> 16);
  }
  check(call<int(void**, const void*, void*, void*)>("dnnl_memory_create")(&memory, descriptor, engine, data), "memory");
  kept.push_back(data);
  product.arguments[product.count++] = {which, memory};
}

static Product make(bool ta, bool tb, int64_t m, int64_t n, int64_t k, int in, int out, bool with_bias, const char** implementation) {
  void *a = describe(m, k, ta, in), *b = describe(k, n, tb, in), *c = describe(m, n, false, out), *bias = with_bias ? describe(1, n, false, 3) : nullptr;
  void* described = nullptr;
  if (major_version == 2) {
    Room operation{};
    check(call<int(void*, const void*, const void*, const void*, const void*)>("dnnl_matmul_desc_init")(&operation, a, b, bias, c), "matmul");
    check(call<int(void**, const void*, const void*, void*, const void*)>("dnnl_primitive_desc_create")(&described, &operation, nullptr, engine, nullptr), "matmul");
  } else {
    check(call<int(void**, void*, const void*, const void*, const void*, const void*, const void*)>("dnnl_matmul_primitive_desc_create")(&described, engine, a, b, bias, c, nullptr), "matmul");
  }
  check(call<int(const void*, int, int, void*)>("dnnl_primitive_desc_query")(described, 8, 0, implementation), "implementation");
  Product product;
  check(call<int(void**, const void*)>("dnnl_primitive_create")(&product.primitive, described), "primitive");
  add(product, 1, a, static_cast<size_t>(m * k), in);
  add(product, 33, b, static_cast<size_t>(k * n), in);
  add(product, 17, c, static_cast<size_t>(m * n), out);
  if (bias) add(product, 41, bias, static_cast<size_t>(n), 3);
  return product;
}

int main() {
  for (const char* name : {"libdnnl.so.3", "libdnnl.so.2"})
    if (!library) library = dlopen(name, RTLD_NOW);
  if (!library) return std::fprintf(stderr, "%s\n", dlerror()), 2;
  major_version = call<const Version*()>("dnnl_version")()->major;
  check(call<int(void**, int, size_t)>("dnnl_engine_create")(&engine, 1, 0), "engine");
  check(call<int(void**, void*, unsigned)>("dnnl_stream_create")(&stream, engine, 1), "stream");
  auto* execute = call<int(const void*, void*, int, const Argument*)>("dnnl_primitive_execute");

  Product product;
  char line[256], in[8], out[8];
  int ta, tb, bias, threads, times;
  long long m, n, k;
  while (std::fgets(line, sizeof line, stdin)) {
    if (std::sscanf(line, "make %d %d %lld %lld %lld %7s %7s %d %d", &ta, &tb, &m, &n, &k, in, out, &bias, &threads) == 9) {
      omp_set_num_threads(threads);
      const char* implementation = nullptr;
      const auto type = [](const char* name) { return std::strcmp(name, "bf16") == 0 ? 2 : 3; };
      product = make(ta, tb, m, n, k, type(in), type(out), bias, &implementation);
      std::printf("%s\n", implementation);
    } else if (std::sscanf(line, "run %d", &times) == 1) {
      const auto start = std::chrono::steady_clock::now();
      const std::clock_t used = std::clock();
      for (int i = 0; i < times; ++i) check(execute(product.primitive, stream, product.count, product.arguments), "execute");
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
      std::printf("%.9f %.9f\n", seconds.count() / times, static_cast<double>(std::clock() - used) / CLOCKS_PER_SEC / times);
    } else {
      return std::fprintf(stderr, "what is: %s", line), 1;
    }
    std::fflush(stdout);
  }
}
