// Tensors by number. A handle is generation * 2^24 + slot, so a handle that was freed is recognised for ever.
// HT-1: 0 is never a handle. HT-2: a stale or invented handle throws ERR_HANDLE naming it and what was asked.
// HT-3: views share their storage; its block goes back to the pool, or to its owner, when the last of them is freed.
// HT-4: a vacated storage has no block: its handles stay, and whoever uses one before `refill` is told so (ERR_HANDLE).
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "../common/tensor_view.h"
#include "pool.h"

/// A storage, told apart from those that had its number before.
struct StorageId {
  int32_t index = -1;
  uint64_t serial = 0;
};

class HandleTable {
 public:
  explicit HandleTable(Pool& pool) : pool_(pool) {}
  HandleTable(const HandleTable&) = delete;
  HandleTable& operator=(const HandleTable&) = delete;

  int64_t allocate(DType dtype, const int64_t* shape, int rank);
  /// A tensor over memory that `owner` keeps: it is dropped when the last view is freed (commands queued before may still use the memory).
  int64_t adopt(DType dtype, const int64_t* shape, int rank, void* data, std::shared_ptr<void> owner);
  int64_t view(int64_t handle, const int64_t* shape, int rank);
  /// The serial number of the storage when it ended with this handle and is watched; else 0.
  uint64_t free(int64_t handle);
  /// `purpose` and `operand` appear in the error. The view stays valid in stream order, even after `free`.
  const TensorView& find(int64_t handle, const char* purpose, int operand = -1) const;
  /// The block goes back to the pool, in stream order. Throws while a program watches the storage.
  void vacate(int64_t handle);
  /// A block again, of any content.
  const TensorView& refill(int64_t handle);
  int64_t tensors() const { return live_; }
  /// Of a handle that is alive.
  StorageId storage_of(int64_t handle) const;
  bool alive(StorageId id) const;
  /// `free` will tell when this storage ends.
  void watch(StorageId id) { storages_[static_cast<size_t>(id.index)].watched = true; }

 private:
  struct Slot {
    TensorView view;
    int32_t storage = -1;  // -1: the slot is free
    int64_t generation = 0;
  };
  struct Storage {
    Block block;
    std::shared_ptr<void> owner;  // of memory that is not the pool's
    int32_t users = 0;
    uint64_t serial = 0;
    bool watched = false;
  };

  int32_t store(Block block, std::shared_ptr<void> owner);
  int64_t occupy(const TensorView& view, int32_t storage);
  const Slot& slot_of(int64_t handle, const char* purpose, int operand = -1) const;
  void point(int32_t storage, void* data);

  Pool& pool_;
  std::vector<Slot> slots_;
  std::vector<int32_t> free_slots_;
  std::vector<Storage> storages_;
  std::vector<int32_t> free_storages_;
  int64_t live_ = 0;
  uint64_t serial_ = 0;
};
