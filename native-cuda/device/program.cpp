#include "program.h"

#include <algorithm>
#include <cstring>

#include "../common/fault.h"
#include "../kernels/arguments.h"
#include "guard.h"

namespace {
constexpr size_t kAlignment = 64;

size_t aligned(size_t bytes) { return (std::max<size_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment; }

/// Free ranges of a region that grows: best fit, neighbours merged.
class Places {
 public:
  size_t take(size_t bytes) {
    auto best = free_.end();
    for (auto it = free_.begin(); it != free_.end(); ++it)
      if (it->second >= bytes && (best == free_.end() || it->second < best->second)) best = it;
    if (best == free_.end()) {  // grow, from the last range if it touches the end
      size_t offset = end_;
      if (!free_.empty() && std::prev(free_.end())->first + std::prev(free_.end())->second == end_) {
        offset = std::prev(free_.end())->first;
        free_.erase(std::prev(free_.end()));
      }
      end_ = offset + bytes;
      return offset;
    }
    const auto [offset, length] = *best;
    free_.erase(best);
    if (length > bytes) free_.emplace(offset + bytes, length - bytes);
    return offset;
  }

  void give(size_t offset, size_t bytes) {
    auto next = free_.lower_bound(offset);
    if (next != free_.end() && offset + bytes == next->first) bytes += next->second, next = free_.erase(next);
    if (next != free_.begin())
      if (auto before = std::prev(next); before->first + before->second == offset) return void(before->second += bytes);
    free_.emplace(offset, bytes);
  }

  size_t end() const { return end_; }

 private:
  std::map<size_t, size_t> free_;  // offset -> length
  size_t end_ = 0;
};

const char* const kKinds[] = {"an input", "an output", "a tensor made inside", "a tensor from outside"};
}  // namespace

void Program::plan() {
  std::vector<std::vector<int>> starts(commands.size()), ends(commands.size());
  for (size_t s = 0; s < storages.size(); ++s) {
    if (storages[s].kind != ProgramStorage::Kind::internal) continue;
    starts[static_cast<size_t>(storages[s].first)].push_back(static_cast<int>(s));
    ends[static_cast<size_t>(storages[s].last)].push_back(static_cast<int>(s));
  }
  Places places;
  for (size_t c = 0; c < commands.size(); ++c) {
    for (int s : starts[c]) storages[static_cast<size_t>(s)].offset = places.take(aligned(storages[static_cast<size_t>(s)].bytes));
    for (int s : ends[c]) places.give(storages[static_cast<size_t>(s)].offset, aligned(storages[static_cast<size_t>(s)].bytes));
  }
  scratch_bytes = places.end();
}

std::string Program::difference(const Program& other) const {
  const size_t shared = std::min(commands.size(), other.commands.size());
  for (size_t c = 0; c < shared; ++c) {
    const ProgramCommand &a = commands[c], &b = other.commands[c];
    const std::string where = format("command %zu, %s: ", c + 1, a.name);
    if (a.kernel != b.kernel || a.operands != b.operands || a.scalars != b.scalars) return where + "the second time it was " + b.name;
    for (int i = 0; i < a.operands; ++i) {
      const ProgramOperand &x = operands[static_cast<size_t>(a.operand + i)], &y = other.operands[static_cast<size_t>(b.operand + i)];
      if (!same_form(x.view, y.view) || (x.storage < 0) != (y.storage < 0))
        return where + format("operand %d was %s, the second time %s", i, shape_text(x.view).c_str(), shape_text(y.view).c_str());
      if (x.storage < 0) continue;
      const ProgramStorage &s = storages[static_cast<size_t>(x.storage)], &t = other.storages[static_cast<size_t>(y.storage)];
      if (s.kind == ProgramStorage::Kind::outside && t.kind == s.kind && s.id.serial != t.id.serial)
        return where + format("operand %d, %s, is another tensor from outside each time; make it an input", i, shape_text(x.view).c_str());
      if (x.storage != y.storage || s.kind != t.kind || s.bytes != t.bytes)
        return where + format("operand %d was %s, the second time %s or another of them", i, kKinds[static_cast<int>(s.kind)], kKinds[static_cast<int>(t.kind)]);
    }
    for (int k = 0; k < a.scalars; ++k) {
      const double x = scalars[static_cast<size_t>(a.scalar + k)], y = other.scalars[static_cast<size_t>(b.scalar + k)];
      if (std::memcmp(&x, &y, sizeof x) != 0) return where + format("scalar %d was %.9g, the second time %.9g; what changes must be an input", k, x, y);
    }
    if (a.bytes != b.bytes || (a.bytes && std::memcmp(&constants[a.constant], &other.constants[b.constant], a.bytes) != 0))
      return where + format("other data were uploaded the second time into %s; upload them before and make them an input",
                            shape_text(operands[static_cast<size_t>(a.operand)].view).c_str());
  }
  if (commands.size() != other.commands.size())
    return format("%zu commands, the second time %zu", commands.size(), other.commands.size());
  if (outputs.size() != other.outputs.size()) return format("%zu outputs, the second time %zu", outputs.size(), other.outputs.size());
  for (size_t i = 0; i < outputs.size(); ++i)
    if (outputs[i].storage != other.outputs[i].storage || !same_form(outputs[i].view, other.outputs[i].view))
      return format("output %zu is another tensor the second time", i);
  return {};
}

void Program::run(void* const* addresses, int threads, bool reference, bool guard, const std::atomic<bool>& stop, const char*& running) const {
  unsigned char* const scratch = static_cast<unsigned char*>(addresses[0]);
  const auto address = [&](int index) -> void* {
    const ProgramStorage& storage = storages[static_cast<size_t>(index)];
    switch (storage.kind) {
      case ProgramStorage::Kind::input: return addresses[1 + static_cast<size_t>(storage.index)];
      case ProgramStorage::Kind::output: return addresses[1 + inputs.size() + static_cast<size_t>(storage.index)];
      case ProgramStorage::Kind::internal: return scratch + storage.offset;
      case ProgramStorage::Kind::outside: return storage.data;
    }
    return nullptr;
  };
  std::vector<TensorView> views;
  for (size_t c = 0; c < commands.size(); ++c) {
    const ProgramCommand& command = commands[c];
    if (stop.load(std::memory_order_relaxed)) return;
    running = command.name;
    views.clear();
    for (int i = 0; i < command.operands; ++i) {
      const ProgramOperand& operand = operands[static_cast<size_t>(command.operand + i)];
      views.push_back(operand.view);
      if (operand.storage < 0) continue;
      views.back().data = address(operand.storage);
      const ProgramStorage& storage = storages[static_cast<size_t>(operand.storage)];
      const bool fresh = storage.first == static_cast<int>(c) && (storage.kind == ProgramStorage::Kind::internal || storage.kind == ProgramStorage::Kind::output);
      if (guard && fresh) guard_fill(views.back().data, storage.bytes);
    }
    if (command.kernel >= 0)
      (guard ? guard_run : run_kernel)(command.kernel, {views.data(), command.operands, scalars.data() + command.scalar, command.scalars, threads, reference});
    else if (command.bytes)
      std::memcpy(views[0].data, constants.data() + command.constant, command.bytes);
  }
}

Recorder::Recorder(HandleTable& tensors, const std::vector<int64_t>& inputs) : tensors_(tensors) {
  for (size_t i = 0; i < inputs.size(); ++i) {
    const TensorView& view = tensors.find(inputs[i], "record", static_cast<int>(i));
    const StorageId id = tensors.storage_of(inputs[i]);
    const int storage = static_cast<int>(program_->storages.size());
    if (!known_.emplace(id.serial, storage).second)
      throw CodedError("ERR_COMPILE", format("record: input %zu, %s, shares its storage with an input before it. Pass each storage once.", i, shape_text(view).c_str()));
    ProgramStorage described;
    described.kind = ProgramStorage::Kind::input;
    described.index = static_cast<int>(i);
    described.bytes = view.bytes();
    described.id = id;
    program_->storages.push_back(described);
    program_->inputs.push_back({view, storage});
  }
}

void Recorder::made(int64_t handle) {
  const StorageId id = tensors_.storage_of(handle);
  made_.emplace(id.serial, Made{id, tensors_.find(handle, "record")});
}

int Recorder::storage_of(int64_t handle, size_t bytes) {
  const StorageId id = tensors_.storage_of(handle);
  const int next = static_cast<int>(program_->storages.size());
  const auto [found, first_use] = known_.emplace(id.serial, next);
  if (first_use) {
    ProgramStorage storage;
    storage.kind = made_.count(id.serial) ? ProgramStorage::Kind::internal : ProgramStorage::Kind::outside;
    storage.bytes = bytes;
    storage.id = id;
    program_->storages.push_back(storage);
  }
  return found->second;
}

ProgramOperand Recorder::operand(int64_t handle, const TensorView& view) {
  ProgramOperand result{view, -1};
  result.view.data = nullptr;
  if (!handle) return result;
  result.storage = storage_of(handle, view.bytes());
  ProgramStorage& storage = program_->storages[static_cast<size_t>(result.storage)];
  storage.data = storage.kind == ProgramStorage::Kind::outside ? view.data : nullptr;
  storage.last = static_cast<int>(program_->commands.size());
  if (storage.first < 0) storage.first = storage.last;
  return result;
}

void Recorder::kernel(int index, const char* name, const int64_t* handles, const TensorView* views, int operands, const double* scalars, int count) {
  ProgramCommand command;
  command.kernel = index;
  command.name = name;
  command.operand = static_cast<int>(program_->operands.size());
  command.operands = operands;
  command.scalar = static_cast<int>(program_->scalars.size());
  command.scalars = count;
  for (int i = 0; i < operands; ++i) program_->operands.push_back(operand(handles[i], views[i]));
  program_->scalars.insert(program_->scalars.end(), scalars, scalars + count);
  program_->commands.push_back(command);
}

void Recorder::upload(int64_t handle, const TensorView& target, const unsigned char* data) {
  ProgramCommand command;
  command.name = "upload";
  command.operand = static_cast<int>(program_->operands.size());
  command.operands = 1;
  command.constant = program_->constants.size();
  command.bytes = target.bytes();
  program_->operands.push_back(operand(handle, target));
  program_->constants.insert(program_->constants.end(), data, data + command.bytes);
  program_->commands.push_back(command);
}

void Recorder::refuse_survivors() const {
  for (const auto& [serial, made] : made_) {
    if (!tensors_.alive(made.id)) continue;
    const auto found = known_.find(serial);
    const ProgramStorage* storage = found == known_.end() ? nullptr : &program_->storages[static_cast<size_t>(found->second)];
    if (storage && storage->kind == ProgramStorage::Kind::output) continue;
    throw CodedError("ERR_COMPILE", format("record: %s, made inside and first used by %s, lives on. Free it inside, or declare it as an output.",
                                           shape_text(made.view).c_str(), storage ? program_->commands[static_cast<size_t>(storage->first)].name : "no command"));
  }
}

std::unique_ptr<Program> Recorder::finish(const std::vector<int64_t>& outputs) {
  for (size_t i = 0; i < outputs.size(); ++i) {
    const TensorView& view = tensors_.find(outputs[i], "record", static_cast<int>(i));
    const auto found = known_.find(tensors_.storage_of(outputs[i]).serial);
    if (found == known_.end())
      throw CodedError("ERR_COMPILE", format("record: output %zu, %s, was written by no command inside.", i, shape_text(view).c_str()));
    ProgramStorage& storage = program_->storages[static_cast<size_t>(found->second)];
    if (storage.kind == ProgramStorage::Kind::internal) {
      storage.kind = ProgramStorage::Kind::output;
      storage.index = program_->output_storages++;
    } else if (storage.kind != ProgramStorage::Kind::output) {
      throw CodedError("ERR_COMPILE", format("record: output %zu, %s, is %s. Only what was made inside can be given back; clone it there.", i,
                                             shape_text(view).c_str(), kKinds[static_cast<int>(storage.kind)]));
    }
    program_->outputs.push_back({view, found->second});
    program_->outputs.back().view.data = nullptr;
  }
  refuse_survivors();
  for (const ProgramStorage& storage : program_->storages) {
    if (storage.kind != ProgramStorage::Kind::outside) continue;
    if (!tensors_.alive(storage.id))
      throw CodedError("ERR_COMPILE", format("record: %s used a tensor from outside, of %zu bytes, that was freed inside. Make it an input.",
                                             program_->commands[static_cast<size_t>(storage.first)].name, storage.bytes));
  }
  for (const ProgramStorage& storage : program_->storages)
    if (storage.kind == ProgramStorage::Kind::outside) tensors_.watch(storage.id);
  program_->plan();
  return std::move(program_);
}

int64_t ProgramTable::add(std::unique_ptr<Program> program) {
  programs_.emplace(next_, std::move(program));
  return next_++;
}

std::shared_ptr<Program> ProgramTable::find(int64_t number) const {
  const auto found = programs_.find(number);
  if (found == programs_.end())
    throw CodedError("ERR_COMPILE", format("replay: program %lld is gone: it was dropped, or a tensor from outside that it uses was freed. Record it again.",
                                           static_cast<long long>(number)));
  return found->second;
}

void ProgramTable::ended(uint64_t serial) {
  std::erase_if(programs_, [&](const auto& entry) {
    const auto& storages = entry.second->storages;
    return std::any_of(storages.begin(), storages.end(), [&](const ProgramStorage& storage) {
      return storage.kind == ProgramStorage::Kind::outside && storage.id.serial == serial;
    });
  });
}
