// Recording and replaying steps: the functions of octavo.node about device/program.h.
#include <algorithm>
#include <cstring>

#include "../kernels/arguments.h"
#include "convert.h"
#include "device.h"

namespace {
std::vector<int64_t> handles_of(Napi::Value value, const char* what) {
  if (!value.IsArray()) throw CodedError("ERR_NATIVE", format("%s: expected an array of handles", what));
  std::vector<int64_t> handles(value.As<Napi::Array>().Length());
  numbers(value, handles.data(), static_cast<int>(handles.size()), what);
  return handles;
}

Napi::Value record_begin(const Napi::CallbackInfo& info) {
  device->not_recorded("record");
  device->recorder = std::make_unique<Recorder>(device->tensors, handles_of(info[0], "record: inputs"));
  return info.Env().Undefined();
}

Napi::Value record_end(const Napi::CallbackInfo& info) {
  if (!device->recorder) throw CodedError("ERR_COMPILE", "record: no recording is open");
  const std::unique_ptr<Recorder> recorder = std::move(device->recorder);  // over, also when this throws
  if (info[0].IsUndefined()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), static_cast<double>(device->programs.add(recorder->finish(handles_of(info[0], "record: outputs")))));
}

Napi::Value program_difference(const Napi::CallbackInfo& info) {
  const std::string found = device->programs.find(integer(info[0], "programDifference"))->difference(*device->programs.find(integer(info[1], "programDifference")));
  return Napi::String::New(info.Env(), found);
}

Napi::Value program_exists(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), device->programs.exists(integer(info[0], "programExists")));
}

Napi::Value program_drop(const Napi::CallbackInfo& info) {
  device->programs.drop(integer(info[0], "programDrop"));
  return info.Env().Undefined();
}

/// What a replay is given for one input: a tensor, or elements on the host.
struct Given {
  int64_t handle = 0;
  Bytes elements{};
};

std::vector<Given> inputs_of(const Program& program, Napi::Value value) {
  if (!value.IsArray()) throw CodedError("ERR_NATIVE", "replay: expected an array of handles and typed arrays");
  const Napi::Array array = value.As<Napi::Array>();
  if (array.Length() != program.inputs.size())
    throw CodedError("ERR_COMPILE", format("replay: the program has %zu inputs, got %u", program.inputs.size(), array.Length()));
  std::vector<Given> inputs;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::Value element = array[i];
    if (element.IsNumber()) inputs.push_back({integer(element, "replay: inputs"), {}});
    else inputs.push_back({0, bytes_of(element, "replay: inputs")});
  }
  return inputs;
}

void check_inputs(const Program& program, const std::vector<Given>& inputs) {
  std::vector<uint64_t> serials;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const TensorView& wanted = program.inputs[i].view;
    if (!inputs[i].handle) {
      if (inputs[i].elements.length != wanted.bytes())
        throw CodedError("ERR_COMPILE", format("replay: input %zu expected %s, got %zu bytes. Record such inputs by themselves.", i, shape_text(wanted).c_str(), inputs[i].elements.length));
      continue;
    }
    const TensorView& given = device->tensors.find(inputs[i].handle, "replay", static_cast<int>(i));
    if (!same_form(given, wanted))
      throw CodedError("ERR_COMPILE", format("replay: input %zu expected %s, got %s. Record such inputs by themselves.", i, shape_text(wanted).c_str(), shape_text(given).c_str()));
    serials.push_back(device->tensors.storage_of(inputs[i].handle).serial);
  }
  std::sort(serials.begin(), serials.end());
  if (std::adjacent_find(serials.begin(), serials.end()) != serials.end())
    throw CodedError("ERR_COMPILE", "replay: two inputs share one storage. Pass each storage once.");
}

constexpr size_t kAlignment = 64;
constexpr size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

/// A command's payload: `count` addresses, then, each aligned, the elements of the inputs that come from the host (PR-6).
Staging::Buffer payload_of(const std::vector<Given>& inputs, size_t count) {
  size_t bytes = sizeof(void*) * count + kAlignment;
  for (const Given& input : inputs) bytes += aligned(input.elements.length);
  return device->staging.take(bytes);
}

/// Copies what comes from the host behind the addresses, and writes down where each input is.
void place_inputs(const std::vector<Given>& inputs, const Program& program, void** addresses, void** end) {
  auto* place = reinterpret_cast<unsigned char*>(aligned(reinterpret_cast<uintptr_t>(end)));
  for (size_t i = 0; i < inputs.size(); ++i) {
    const auto& [handle, elements] = inputs[i];
    addresses[i] = handle ? device->tensors.find(handle, "replay").data : place;
    if (handle) continue;
    if (elements.length) std::memcpy(place, elements.data, elements.length);
    TensorView arrived = program.inputs[i].view;
    arrived.data = place;
    check_arrival("replay", arrived);
    place += aligned(elements.length);
  }
}

/// New tensors for the outputs; their addresses by output storage.
std::vector<int64_t> allocate_outputs(const Program& program, void** addresses) {
  std::vector<int64_t> handles, owner(static_cast<size_t>(program.output_storages), 0);
  try {
    for (const ProgramOperand& output : program.outputs) {
      int64_t& whole = owner[static_cast<size_t>(program.storages[static_cast<size_t>(output.storage)].index)];
      const int64_t handle = whole ? device->tensors.view(whole, output.view.dim, output.view.rank)
                                   : device->tensors.allocate(output.view.dtype, output.view.dim, output.view.rank);
      handles.push_back(handle);
      if (!whole) addresses[program.storages[static_cast<size_t>(output.storage)].index] = device->tensors.find(handle, "replay").data, whole = handle;
    }
  } catch (...) {
    for (const int64_t handle : handles) device->tensors.free(handle);
    throw;
  }
  return handles;
}

Napi::Value replay(const Napi::CallbackInfo& info) {
  device->not_recorded("replay");
  const std::shared_ptr<Program> program = device->programs.find(integer(info[0], "replay"));
  const size_t inputs = program->inputs.size();
  Command command;
  command.kind = Command::Kind::replay;
  command.name = "replay";
  const std::vector<Given> given = inputs_of(*program, info[1]);
  check_inputs(*program, given);
  const size_t count = 1 + inputs + static_cast<size_t>(program->output_storages);
  command.payload = payload_of(given, count);
  void** const addresses = reinterpret_cast<void**>(command.payload.get());
  const Block scratch = device->pool.take(program->scratch_bytes);
  addresses[0] = scratch.data;
  std::vector<int64_t> outputs;
  try {
    outputs = allocate_outputs(*program, addresses + 1 + inputs);
    place_inputs(given, *program, addresses + 1, addresses + count);
  } catch (...) {
    for (const int64_t handle : outputs) device->tensors.free(handle);
    device->pool.give(scratch);
    throw;
  }
  command.program = program;
  device->stream.push(std::move(command));
  device->pool.give(scratch);  // PL-1: whoever gets it next comes after this replay
  Napi::Array result = Napi::Array::New(info.Env(), outputs.size());
  for (size_t i = 0; i < outputs.size(); ++i) result.Set(static_cast<uint32_t>(i), static_cast<double>(outputs[i]));
  return result;
}

Napi::Value program_describe(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::shared_ptr<Program> program = device->programs.find(integer(info[0], "programDescribe"));
  constexpr const char* kinds[] = {"input", "output", "internal", "outside"};
  Napi::Array storages = Napi::Array::New(env), commands = Napi::Array::New(env);
  for (const ProgramStorage& storage : program->storages) {
    Napi::Object described = Napi::Object::New(env);
    described.Set("kind", kinds[static_cast<int>(storage.kind)]);
    described.Set("index", storage.index);
    described.Set("bytes", static_cast<double>(storage.bytes));
    described.Set("offset", static_cast<double>(storage.offset));
    described.Set("first", storage.first);
    described.Set("last", storage.last);
    storages.Set(storages.Length(), described);
  }
  for (const ProgramCommand& command : program->commands) {
    Napi::Object described = Napi::Object::New(env);
    Napi::Array operands = Napi::Array::New(env), scalars = Napi::Array::New(env);
    for (int i = 0; i < command.operands; ++i) {
      const ProgramOperand& operand = program->operands[static_cast<size_t>(command.operand + i)];
      Napi::Object one = Napi::Object::New(env);
      one.Set("storage", operand.storage);
      one.Set("form", operand.storage < 0 ? std::string("absent") : shape_text(operand.view));
      operands.Set(operands.Length(), one);
    }
    for (int k = 0; k < command.scalars; ++k) scalars.Set(scalars.Length(), program->scalars[static_cast<size_t>(command.scalar + k)]);
    described.Set("op", command.name);
    described.Set("operands", operands);
    described.Set("scalars", scalars);
    described.Set("constantBytes", static_cast<double>(command.bytes));
    commands.Set(commands.Length(), described);
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("storages", storages);
  result.Set("commands", commands);
  result.Set("inputs", static_cast<double>(program->inputs.size()));
  result.Set("outputs", static_cast<double>(program->outputs.size()));
  result.Set("scratchBytes", static_cast<double>(program->scratch_bytes));
  return result;
}
}  // namespace

void export_programs(Napi::Env env, Napi::Object exports) {
#define OCTAVO_EXPORT(name, function) exports.Set(name, Napi::Function::New<guarded<function>>(env, name))
  OCTAVO_EXPORT("recordBegin", record_begin);
  OCTAVO_EXPORT("recordEnd", record_end);
  OCTAVO_EXPORT("programDifference", program_difference);
  OCTAVO_EXPORT("programExists", program_exists);
  OCTAVO_EXPORT("programDrop", program_drop);
  OCTAVO_EXPORT("programDescribe", program_describe);
  OCTAVO_EXPORT("replay", replay);
#undef OCTAVO_EXPORT
}
