#include "handle_table.h"

#include "../common/fault.h"

namespace {
constexpr int64_t kSlots = int64_t{1} << 24;
constexpr int64_t kMaxBytes = int64_t{1} << 46;  // far above any machine, far below overflow of the products

TensorView shaped(DType dtype, const int64_t* shape, int rank, const char* purpose) {
  if (rank > kMaxRank)
    throw CodedError("ERR_SHAPE", format("%s: rank is at most %d, got %d. Merge dimensions first.", purpose, kMaxRank, rank));
  TensorView view;
  view.dtype = dtype;
  view.rank = rank;
  view.numel = 1;
  for (int d = 0; d < rank; ++d) {
    if (shape[d] < 0 || (view.numel > 0 && shape[d] > kMaxBytes / view.numel))
      throw CodedError("ERR_SHAPE", format("%s: dimension %d is %lld, expected a size that memory can hold", purpose, d,
                                           static_cast<long long>(shape[d])));
    view.dim[d] = shape[d];
    view.numel *= shape[d];
  }
  return view;
}
}  // namespace

int64_t HandleTable::allocate(DType dtype, const int64_t* shape, int rank) {
  TensorView view = shaped(dtype, shape, rank, "allocate");
  const Block block = pool_.take(view.bytes());
  view.data = block.data;
  return occupy(view, store(block, nullptr));
}

int64_t HandleTable::adopt(DType dtype, const int64_t* shape, int rank, void* data, std::shared_ptr<void> owner) {
  TensorView view = shaped(dtype, shape, rank, "adopt");
  view.data = data;
  return occupy(view, store({}, std::move(owner)));
}

int32_t HandleTable::store(Block block, std::shared_ptr<void> owner) {
  int32_t storage;
  if (free_storages_.empty()) {
    storage = static_cast<int32_t>(storages_.size());
    storages_.push_back({});
  } else {
    storage = free_storages_.back();
    free_storages_.pop_back();
  }
  storages_[storage] = {block, std::move(owner), 0, ++serial_, false};
  return storage;
}

int64_t HandleTable::view(int64_t handle, const int64_t* shape, int rank) {
  const TensorView& source = find(handle, "view");
  TensorView view = shaped(source.dtype, shape, rank, "view");
  if (view.numel != source.numel)
    throw CodedError("ERR_SHAPE", format("view: the tensor has %lld elements, the shape asked for has %lld",
                                         static_cast<long long>(source.numel), static_cast<long long>(view.numel)));
  view.data = source.data;
  return occupy(view, slots_[handle % kSlots].storage);
}

int64_t HandleTable::occupy(const TensorView& view, int32_t storage) {
  int64_t index;
  if (free_slots_.empty()) {
    index = static_cast<int64_t>(slots_.size());
    if (index >= kSlots) throw CodedError("ERR_MEMORY", "more than 16777216 tensors are alive: something never frees them");
    slots_.push_back({});
  } else {
    index = free_slots_.back();
    free_slots_.pop_back();
  }
  Slot& slot = slots_[index];
  slot.view = view;
  slot.storage = storage;
  ++slot.generation;
  ++storages_[storage].users;
  ++live_;
  return slot.generation * kSlots + index;
}

uint64_t HandleTable::free(int64_t handle) {
  slot_of(handle, "free");
  uint64_t ended = 0;
  Slot& slot = slots_[handle % kSlots];
  Storage& storage = storages_[slot.storage];
  if (--storage.users == 0) {
    if (storage.owner) storage.owner.reset();
    else if (storage.block.data) pool_.give(storage.block);
    free_storages_.push_back(slot.storage);
    if (storage.watched) ended = storage.serial;
  }
  slot.storage = -1;
  free_slots_.push_back(static_cast<int32_t>(handle % kSlots));
  --live_;
  return ended;
}

void HandleTable::vacate(int64_t handle) {
  find(handle, "vacate");
  const int32_t index = slots_[handle % kSlots].storage;
  Storage& storage = storages_[index];
  if (storage.watched) throw CodedError("ERR_HANDLE", "vacate: a recorded step uses this tensor, its memory must stay where it is");
  if (storage.owner) throw CodedError("ERR_HANDLE", "vacate: the memory of this tensor is not the pool's, and goes with the tensor");
  pool_.give(storage.block);
  storage.block.data = nullptr;
  point(index, nullptr);
}

const TensorView& HandleTable::refill(int64_t handle) {
  const Slot& slot = slot_of(handle, "refill");
  Storage& storage = storages_[slot.storage];
  if (storage.block.data) throw CodedError("ERR_HANDLE", "refill: the tensor has its memory; only a vacated one is refilled");
  storage.block = pool_.take(storage.block.bytes);
  point(slot.storage, storage.block.data);
  return slot.view;
}

/// Views begin where their storage does.
void HandleTable::point(int32_t storage, void* data) {
  int32_t left = storages_[storage].users;
  for (size_t i = 0; left > 0; ++i) {
    if (slots_[i].storage != storage) continue;
    slots_[i].view.data = data;
    --left;
  }
}

StorageId HandleTable::storage_of(int64_t handle) const {
  const int32_t storage = slots_[handle % kSlots].storage;
  return {storage, storages_[storage].serial};
}

bool HandleTable::alive(StorageId id) const {
  const Storage& storage = storages_[id.index];
  return storage.serial == id.serial && storage.users > 0;
}

const TensorView& HandleTable::find(int64_t handle, const char* purpose, int operand) const {
  const TensorView& view = slot_of(handle, purpose, operand).view;
  if (view.data) return view;
  throw CodedError("ERR_HANDLE", format("%s: operand %d is a tensor whose memory was given back for the time being (vacate). Refill it before its use.",
                                        purpose, operand < 0 ? 0 : operand));
}

const HandleTable::Slot& HandleTable::slot_of(int64_t handle, const char* purpose, int operand) const {
  const int64_t index = handle % kSlots, generation = handle / kSlots;
  if (handle > 0 && index < static_cast<int64_t>(slots_.size())) {
    const Slot& slot = slots_[index];
    if (slot.storage >= 0 && slot.generation == generation) return slot;
    if (generation <= slot.generation)
      throw CodedError("ERR_HANDLE", format("%s: operand %d is tensor %lld, which was freed. Keep it alive until its last use.",
                                            purpose, operand < 0 ? 0 : operand, static_cast<long long>(handle)));
  }
  throw CodedError("ERR_HANDLE", format("%s: operand %d is %lld, which never was a tensor", purpose,
                                        operand < 0 ? 0 : operand, static_cast<long long>(handle)));
}
