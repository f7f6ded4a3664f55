// A recorded step: the commands of the stream in order, without the memory they ran in. Operands name storages; a replay gives
// each storage an address. It is the form a CUDA graph can be built from: kernels, shapes, scalars, and who reads which storage.
//
// PR-1: a recording changes nothing about the commands recorded: they run as always, in memory of the pool.
// PR-2: a storage is an input (a tensor named when the recording began), an output (named when it ended), internal (made and freed
//       in between) or outside (any other tensor: parameters, states). Inputs and outputs have new addresses in every replay,
//       internal storages lie in one scratch block where those of disjoint lifetimes share places, outside ones stay where they are.
// PR-3: outputs and scratch come from the pool for each replay and go back in the order of the program (PL-1): between replays a
//       program holds no device memory, and what it gives is the caller's like any other tensor.
// PR-4: a program ends with the first of its outside tensors; it is never replayed with memory that was given to others.
// PR-5: a replay is one command. It stops between two kernels when the stream stops, and its fault names the kernel that failed.
// PR-6: an input may come from the host: its elements travel in the replay's command, and are read where they lie.
#pragma once
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "handle_table.h"

struct ProgramStorage {
  enum class Kind : uint8_t { input, output, internal, outside };
  Kind kind = Kind::internal;
  int index = 0;                // of an input: its position; of an output: its position among the outputs' storages
  size_t bytes = 0, offset = 0;  // internal: place in the scratch block
  int first = -1, last = -1;    // commands that use it first and last
  void* data = nullptr;         // outside: where it is
  StorageId id;                 // in the recording
};

struct ProgramCommand {
  int kernel = -1;  // -1: an upload, of `bytes` at `constant`, into its one operand
  const char* name = "";
  int operand = 0, operands = 0;  // first and number, in Program::operands
  int scalar = 0, scalars = 0;
  size_t constant = 0, bytes = 0;
};

/// Shape and dtype of an operand; its address is that of the storage (-1: absent operand).
struct ProgramOperand {
  TensorView view;
  int storage = -1;
};

struct Program {
  std::vector<ProgramCommand> commands;
  std::vector<ProgramOperand> operands, inputs, outputs;
  std::vector<double> scalars;
  std::vector<unsigned char> constants;
  std::vector<ProgramStorage> storages;  // inputs first, then in order of first use
  int output_storages = 0;
  size_t scratch_bytes = 0;

  /// Gives internal storages their places. Source: best fit over the lifetimes, as in Pisarchyk and Lee 2020.
  void plan();
  /// Empty when `other` recorded the same; else the first difference, for people.
  std::string difference(const Program& other) const;
  /// On the stream. addresses: scratch, inputs, output storages. `guard`: each kernel is watched (guard.h). `running` names the command at work.
  void run(void* const* addresses, int threads, bool reference, bool guard, const std::atomic<bool>& stop, const char*& running) const;
};

/// What the commands of one recording say, while they are enqueued.
class Recorder {
 public:
  Recorder(HandleTable& tensors, const std::vector<int64_t>& inputs);
  /// A tensor was allocated.
  void made(int64_t handle);
  void kernel(int index, const char* name, const int64_t* handles, const TensorView* views, int operands, const double* scalars, int count);
  void upload(int64_t handle, const TensorView& target, const unsigned char* data);
  /// Throws CodedError ERR_COMPILE: a tensor made inside lives on undeclared, an output is none, an outside tensor was freed.
  std::unique_ptr<Program> finish(const std::vector<int64_t>& outputs);

 private:
  struct Made {
    StorageId id;
    TensorView view;
  };
  int storage_of(int64_t handle, size_t bytes);
  ProgramOperand operand(int64_t handle, const TensorView& view);
  void refuse_survivors() const;

  HandleTable& tensors_;
  std::unique_ptr<Program> program_ = std::make_unique<Program>();
  std::unordered_map<uint64_t, int> known_;  // serial -> storage of the program
  std::unordered_map<uint64_t, Made> made_;  // by serial
};

/// Programs by number.
class ProgramTable {
 public:
  int64_t add(std::unique_ptr<Program> program);
  /// Throws CodedError ERR_COMPILE when the program was dropped, saying why.
  std::shared_ptr<Program> find(int64_t number) const;
  bool exists(int64_t number) const { return programs_.count(number) > 0; }
  void drop(int64_t number) { programs_.erase(number); }
  /// An outside storage is gone: so are its programs (PR-4).
  void ended(uint64_t serial);

 private:
  std::map<int64_t, std::shared_ptr<Program>> programs_;  // shared with the replays that wait in the stream
  int64_t next_ = 1;
};
