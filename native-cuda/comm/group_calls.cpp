// The collective calls: kernels whose first scalar is the number of a group (group_seat.h), so they run, are recorded and are replayed in the
// order of the program like any other. What each does with its bytes; N is the size of the group, `rows` the product of dimensions before the axis:
//   all_reduce      x in place                  each rank sums its slice of every round and sends it to all; 2 (N-1)/N of x out and in
//   reduce          x in place at the root      all send to the root, which sums
//   broadcast       x                           the root sends to all
//   all_gather      x (rows, c) -> y (rows, N c)       each sends to all; (N-1) x out and in
//   reduce_scatter  x (rows, N c) -> y (rows, c)       each slice goes to the rank that sums it; (N-1)/N of x out and in
//   all_to_all      x (rows, N c) -> y (rows, N c)     slice p goes to rank p
//   rotate          x -> y                      to the rank `by` further on, from the rank `by` before
//   barrier         nothing but notes
#include <algorithm>

#include "../kernels/arguments.h"
#include "group_seat.h"
#include "pairwise_tree.h"

namespace {
/// A slice of a round of all_reduce: four of them fill a ring of 512 KiB, so that one round is sent while another is summed.
constexpr int64_t kSliceBytes = 128 << 10;
/// Up to here everybody sends everything to all and sums by itself: one way instead of two. The bits are the same (GR-4).
constexpr int64_t kSmallBytes = 4 << 10;

CallNote note_of(const char* op, const TensorView& x, int64_t argument = 0) {
  CallNote note;
  std::copy_n(op, std::min(std::char_traits<char>::length(op), sizeof note.op), note.op);
  note.dtype = static_cast<uint8_t>(x.dtype), note.numel = x.numel, note.argument = argument;
  return note;
}

std::shared_ptr<Group> group_of(const Arguments& a) { return group_table().find(static_cast<int64_t>(a.scalar(0))); }

void must_sum(const Arguments& a) {
  if (!tree_sums(a[0].dtype)) fail("%s: x expected f64, f32, bf16, i64 or i32, got %s", a.kernel(), dtype_name(a[0].dtype));
}

/// Rank `r`'s part of [0, n) elements: contiguous, in whole cache lines of f32 but for the last.
struct Share {
  int64_t begin, end;
  Share(int64_t n, int r, int size) : begin(at(n, r, size)), end(at(n, r + 1, size)) {}
  static int64_t at(int64_t n, int r, int size) { return r == size ? n : n * r / size / 16 * 16; }
};

Region elements(const TensorView& x, int64_t begin, int64_t end) {
  const int64_t bytes = static_cast<int64_t>(dtype_bytes(x.dtype));
  return Region::whole(x.as<unsigned char>() + begin * bytes, static_cast<size_t>((end - begin) * bytes));
}

/// Rank `r`'s slice of x (rows, N c): c columns of each row.
Region columns(const TensorView& x, int64_t rows, int r, int size) {
  const size_t row = rows ? x.bytes() / static_cast<size_t>(rows) : 0, part = row / static_cast<size_t>(size);
  return {x.as<unsigned char>() + static_cast<size_t>(r) * part, part * static_cast<size_t>(rows), part, row};
}

void copy_region(const Region& from, const Region& to) {
  for (size_t done = 0; done < from.bytes;) {
    const Piece source = from.at(done), target = to.at(done);
    const size_t n = std::min(source.bytes, target.bytes);
    std::memcpy(target.data, source.data, n);
    done += n;
  }
}

void all_reduce_small(Group& group, const TensorView& x) {
  const std::vector<unsigned char> before(x.as<unsigned char>(), x.as<unsigned char>() + x.bytes());  // what is sent must stay
  for (const int to : group.others()) group.send(to, Region::whole(before.data(), before.size()));
  group.sum(x.dtype, group.others(), Region::whole(x.data, x.bytes()), Region::whole(x.data, x.bytes()));
  group.end();
}

/// Rounds of N slices. While round k is summed, the slices of round k + 1 are under way; the sums of round k - 1 come in after it.
class ReduceRounds {
 public:
  ReduceRounds(Group& group, const TensorView& x)
      : group_(group), x_(x), elements_(group.size() * kSliceBytes / static_cast<int64_t>(dtype_bytes(x.dtype))), rounds_((x.numel + elements_ - 1) / elements_) {}

  void run() {
    send_slices(0);
    for (int64_t k = 0; k < rounds_; ++k) {
      send_slices(k + 1);
      const Region own = slice(k, group_.rank());
      group_.sum(x_.dtype, group_.others(), own, own);
      for (const int to : group_.others()) group_.send(to, own);
      receive_sums(k - 1);
    }
    receive_sums(rounds_ - 1);
    group_.end();
  }

 private:
  Region slice(int64_t round, int rank) const {
    const int64_t begin = round * elements_, n = std::min(elements_, x_.numel - begin);
    const Share share(n, rank, group_.size());
    return elements(x_, begin + share.begin, begin + share.end);
  }
  void send_slices(int64_t round) {
    if (round >= rounds_) return;
    for (const int to : group_.others()) group_.send(to, slice(round, to));
  }
  void receive_sums(int64_t round) {
    if (round < 0) return;
    std::vector<Group::Arrival> sums;
    for (const int from : group_.others()) sums.push_back({from, slice(round, from)});
    group_.receive(std::move(sums));
  }

  Group& group_;
  const TensorView& x_;
  int64_t elements_, rounds_;
};
}  // namespace

OCTAVO_KERNEL_BF16(all_reduce, OwnBf16::any()) {
  const Arguments a(call, "all_reduce", {"x"}, {"group"});
  must_sum(a);
  const auto group = group_of(a);
  group->begin(note_of("all_reduce", a[0]), group->others(), group->others());
  if (static_cast<int64_t>(a[0].bytes()) <= kSmallBytes) all_reduce_small(*group, a[0]);
  else ReduceRounds(*group, a[0]).run();
}

OCTAVO_KERNEL_BF16(reduce, OwnBf16::any()) {
  const Arguments a(call, "reduce", {"x"}, {"group", "root"});
  must_sum(a);
  const auto group = group_of(a);
  const int root = static_cast<int>(a.whole(1, 0, group->size() - 1));
  const bool here = root == group->rank();
  const Region x = Region::whole(a[0].data, a[0].bytes());
  group->begin(note_of("reduce", a[0], root), here ? Group::Ranks{} : Group::Ranks{root}, here ? group->others() : Group::Ranks{});
  if (here) group->sum(a[0].dtype, group->others(), x, x);
  else group->send(root, x);
  group->end();
}

OCTAVO_KERNEL_BF16(broadcast, OwnBf16::any()) {
  const Arguments a(call, "broadcast", {"x"}, {"group", "root"});
  const auto group = group_of(a);
  const int root = static_cast<int>(a.whole(1, 0, group->size() - 1));
  const bool here = root == group->rank();
  const Region x = Region::whole(a[0].data, a[0].bytes());
  group->begin(note_of("broadcast", a[0], root), here ? group->others() : Group::Ranks{}, here ? Group::Ranks{} : Group::Ranks{root});
  if (here)
    for (const int to : group->others()) group->send(to, x);
  else
    group->receive({{root, x}});
  group->end();
}

OCTAVO_KERNEL_BF16(all_gather, OwnBf16::any()) {
  const Arguments a(call, "all_gather", {"x", "y"}, {"group", "rows"});
  a.same_dtype(1, 0);
  const auto group = group_of(a);
  const int64_t rows = a.whole(1, 0, INT64_MAX);
  a.count(1, a[0].numel * group->size(), "(N x)");
  const Region own = Region::whole(a[0].data, a[0].bytes());
  group->begin(note_of("all_gather", a[0], rows), group->others(), group->others());
  std::vector<Group::Arrival> parts;
  for (const int rank : group->others()) group->send(rank, own), parts.push_back({rank, columns(a[1], rows, rank, group->size())});
  copy_region(own, columns(a[1], rows, group->rank(), group->size()));
  group->receive(std::move(parts));
  group->end();
}

OCTAVO_KERNEL_BF16(reduce_scatter, OwnBf16::any()) {
  const Arguments a(call, "reduce_scatter", {"x", "y"}, {"group", "rows"});
  must_sum(a), a.same_dtype(1, 0);
  const auto group = group_of(a);
  const int64_t rows = a.whole(1, 0, INT64_MAX);
  a.count(0, a[1].numel * group->size(), "(N y)");
  group->begin(note_of("reduce_scatter", a[0], rows), group->others(), group->others());
  for (const int to : group->others()) group->send(to, columns(a[0], rows, to, group->size()));
  group->sum(a[0].dtype, group->others(), columns(a[0], rows, group->rank(), group->size()), Region::whole(a[1].data, a[1].bytes()));
  group->end();
}

OCTAVO_KERNEL_BF16(all_to_all, OwnBf16::any()) {
  const Arguments a(call, "all_to_all", {"x", "y"}, {"group", "rows"});
  a.like(1, 0);
  const auto group = group_of(a);
  const int64_t rows = a.whole(1, 0, INT64_MAX);
  const auto slice = [&](int operand, int rank) { return columns(a[operand], rows, rank, group->size()); };
  group->begin(note_of("all_to_all", a[0], rows), group->others(), group->others());
  std::vector<Group::Arrival> parts;
  for (const int rank : group->others()) group->send(rank, slice(0, rank)), parts.push_back({rank, slice(1, rank)});
  copy_region(slice(0, group->rank()), slice(1, group->rank()));
  group->receive(std::move(parts));
  group->end();
}

OCTAVO_KERNEL_BF16(rotate, OwnBf16::any()) {
  const Arguments a(call, "rotate", {"x", "y"}, {"group", "by"});
  a.like(1, 0);
  const auto group = group_of(a);
  const int size = group->size(), by = static_cast<int>(a.whole(1, 0, size - 1));
  const int to = (group->rank() + by) % size, from = (group->rank() + size - by) % size;
  const Region x = Region::whole(a[0].data, a[0].bytes()), y = Region::whole(a[1].data, a[1].bytes());
  if (by == 0) return copy_region(x, y);
  group->begin(note_of("rotate", a[0], by), {to}, {from});
  group->send(to, x);
  group->receive({{from, y}});
  group->end();
}

// A deadline that passes ends the group, not the stream: whoever called learns it from the group.
OCTAVO_KERNEL(barrier) {
  const Arguments a(call, "barrier", {}, {"group", "timeoutMs"});
  const auto group = group_of(a);
  try {
    group->begin(note_of("barrier", {}), group->others(), group->others(), static_cast<int64_t>(a.scalar(1)));
    group->end();
  } catch (const CollectiveFault&) {
  }
}
