// The copy kernel of STREAM (McCalpin 1995): c[j] = a[j] over arrays of f64, bytes counted as read plus written, 16 per element.
//   stream_copy BYTES_PER_ARRAY THREADS TRIALS -> one line of JSON, the best of the trials after a first that is not counted, in GB/s:
//   {"ordinary": ..., "streaming": ...}
// ordinary: stores through the caches, which read a line before it is written, so that the memory moves half as much again;
// streaming: non-temporal stores, which do not.
#include <immintrin.h>
#include <omp.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

static void ordinary(const double* a, double* c, long n) {
#pragma omp parallel for schedule(static)
  for (long j = 0; j < n; ++j) c[j] = a[j];
}

static void streaming(const double* a, double* c, long n) {
#pragma omp parallel for schedule(static)
  for (long j = 0; j < n; j += 2) _mm_stream_pd(c + j, _mm_load_pd(a + j));
}

static double best(void (*copy)(const double*, double*, long), const double* a, double* c, long n, int trials) {
  double seconds = 1e30;
  for (int trial = 0; trial <= trials; ++trial) {
    const double start = omp_get_wtime();
    copy(a, c, n);
    if (trial > 0) seconds = std::min(seconds, omp_get_wtime() - start);
  }
  return 16.0 * static_cast<double>(n) / seconds / 1e9;
}

int main(int argc, char** argv) {
  if (argc != 4) return std::fprintf(stderr, "stream_copy BYTES_PER_ARRAY THREADS TRIALS\n"), 2;
  const long n = std::atol(argv[1]) / 64 * 8;
  omp_set_num_threads(std::atoi(argv[2]));
  auto* a = static_cast<double*>(std::aligned_alloc(4096, static_cast<size_t>(n) * 8));
  auto* c = static_cast<double*>(std::aligned_alloc(4096, static_cast<size_t>(n) * 8));
#pragma omp parallel for schedule(static)
  for (long j = 0; j < n; ++j) a[j] = 1.0, c[j] = 2.0;
  const int trials = std::atoi(argv[3]);
  std::printf("{\"ordinary\": %.3f, \"streaming\": %.3f}\n", best(ordinary, a, c, n, trials), best(streaming, a, c, n, trials));
  const bool same = c[n - 1] == 1.0;
  std::free(a), std::free(c);
  return same ? 0 : 1;
}
