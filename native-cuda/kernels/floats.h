// Operands that are f32 or bf16 in memory and f32 where the loop runs (decision N-5).
//   const Floats x = a.floats(0), y = a.output(1);
//   element_pieces(n, threads, {x, y}, [&](int64_t at, int64_t count) {
//     tile(x.read<0>(at, count), y.write<1>(at, count), count);
//   });
// FL-1: f32 lies where it is. bf16 is widened into, and rounded from, a buffer of the thread, at most kStreamed elements (or one row)
//       at a time: the bits are those of run_widened.
// FL-2: an output larger than the last-level cache is computed in such a buffer, f32 too, and streamed to memory from there.
// FL-3: all inputs of a piece are read before an output of it is written, so y may be x where the loop allows it.
#pragma once
#include <initializer_list>

#include "../common/bf16.h"
#include "../common/scratch.h"
#include "../common/streaming.h"
#include "../common/tensor_view.h"
#include "tiles.h"

class Floats {
 public:
  Floats(const float* data) : data_(const_cast<float*>(data)) {}  // NOLINT: plain f32 is the ordinary case
  explicit Floats(const TensorView& t) : data_(t.data), narrow_(t.dtype == DType::bf16) {}
  /// An operand that is written once and not read.
  static Floats output(const TensorView& t) {
    Floats target(t);
    target.streamed_ = t.bytes() > last_level_cache();
    return target;
  }

  bool narrow() const { return narrow_; }
  bool buffered() const { return narrow_ || streamed_; }
  /// Elements [at, at + n) as f32, valid until slot kSlot is asked for again by this thread.
  template <int kSlot> const float* read(int64_t at, int64_t n) const {
    if (!narrow_) return static_cast<const float*>(data_) + at;
    float* buffer = thread_scratch<Floats, kSlot>(n);
    widen(static_cast<const Bf16*>(data_) + at, buffer, n);
    return buffer;
  }

  /// Where elements [at, at + n) are to be written as f32; they reach memory when the result ends.
  class Output {
   public:
    Output(const Floats& target, int64_t at, int64_t n, float* buffer) : target_(target), at_(at), n_(n), buffer_(buffer) {}
    Output(const Output&) = delete;
    ~Output() {
      if (target_.buffered()) target_.store(buffer_, at_, n_);
    }
    operator float*() const { return buffer_; }

   private:
    const Floats& target_;
    int64_t at_, n_;
    float* buffer_;
  };
  template <int kSlot> Output write(int64_t at, int64_t n) const {
    return Output(*this, at, n, buffered() ? thread_scratch<Floats, kSlot>(n) : static_cast<float*>(data_) + at);
  }
  void fill(int64_t at, int64_t n, float value) const;
  /// Elements [at, at + n) of y from those of `x` from x_at on: moved where the dtypes agree, converted where not.
  void copy(int64_t at, const Floats& x, int64_t x_at, int64_t n) const;

 private:
  void store(const float* buffer, int64_t at, int64_t n) const;

  void* data_;
  bool narrow_ = false, streamed_ = false;
};

/// Elements of a piece, so that its buffers lie in a first-level cache of 32 KB: one of an f32 output, or one for each bf16 operand
/// and what they are rounded to (2048 of those cost 20 to 30 % from memory; 1024 of f32, 5 %).
constexpr int64_t kStreamed = 2048, kBuffered = 1024;

/// Elements of a piece for these operands; none of them needs pieces: 0.
inline int64_t piece_elements(std::initializer_list<Floats> operands) {
  int64_t piece = 0;
  for (const Floats& f : operands) {
    if (f.narrow()) return kBuffered;
    if (f.buffered()) piece = kStreamed;
  }
  return piece;
}

/// body(at, count) over [0, n), in pieces where one of the operands needs them.
template <class F> void pieces(int64_t n, std::initializer_list<Floats> operands, F&& body) {
  const int64_t elements = piece_elements(operands), piece = elements ? elements : n;
  for (int64_t at = 0; at < n; at += piece) body(at, std::min(piece, n - at));
}

/// The same, shared out in tiles.
template <int64_t kTile = kTileElements, class F>
void element_pieces(int64_t n, int threads, std::initializer_list<Floats> operands, F&& body) {
  element_tiles<kTile>(n, threads, [&](int64_t begin, int64_t end) {
    pieces(end - begin, operands, [&](int64_t at, int64_t count) { body(begin + at, count); });
  });
}

/// body(first, last) over [first, last) of rows, in pieces where one of the operands needs them.
template <class F> void rows_in_pieces(int64_t first, int64_t last, int64_t cols, std::initializer_list<Floats> operands, F&& body) {
  const int64_t elements = piece_elements(operands), piece = elements ? std::max<int64_t>(1, elements / std::max<int64_t>(1, cols)) : last - first;
  for (int64_t at = first; at < last; at += piece) body(at, std::min(last, at + piece));
}

/// body(first, last) over [0, rows).
template <int64_t kTile = kTileElements, class F>
void row_pieces(int64_t rows, int64_t cols, int threads, std::initializer_list<Floats> operands, F&& body) {
  row_tiles<kTile>(rows, cols, threads, [&](int64_t first, int64_t last) { rows_in_pieces(first, last, cols, operands, body); });
}

/// tile(inputs, outputs, count) over [0, n) with count a multiple of 16: the last elements lie in padded copies. A compiler that
/// fuses products and sums may do so differently in the loop over vectors and in what is left over; so an element has one value
/// wherever it stands.
template <size_t kInputs, size_t kOutputs, class F>
void in_whole_vectors(int64_t n, const float* const (&inputs)[kInputs], float* const (&outputs)[kOutputs], F&& tile) {
  constexpr int64_t kVector = 16;
  const int64_t whole = n / kVector * kVector, rest = n - whole;
  tile(inputs, outputs, whole);
  if (rest == 0) return;
  float in[kInputs][kVector] = {}, out[kOutputs][kVector];
  const float* padded_inputs[kInputs];
  float* padded_outputs[kOutputs];
  for (size_t i = 0; i < kInputs; ++i) padded_inputs[i] = in[i], std::copy_n(inputs[i] + whole, rest, in[i]);
  for (size_t i = 0; i < kOutputs; ++i) padded_outputs[i] = out[i];
  tile(padded_inputs, padded_outputs, kVector);
  for (size_t i = 0; i < kOutputs; ++i) std::copy_n(out[i], rest, outputs[i] + whole);
}
