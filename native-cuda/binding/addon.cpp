// The functions of octavo.node. Typed and documented in runtime/native.ts; this file only checks, converts and enqueues.
// One JavaScript thread per process owns the device: the main one.
#include <napi.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "../common/isa.h"
#include "../kernels/gemm.h"
#include "../kernels/registry.h"
#include "../kernels/timings.h"
#include "convert.h"
#include "device.h"

Device* device = nullptr;

void check_arrival(const char* by, const TensorView& arrived) {
  if (!device->stream.guard) return;
  Command command;
  command.kind = Command::Kind::check;
  command.name = by;
  command.tensors = 1;
  command.payload = device->staging.take(sizeof(TensorView));
  *reinterpret_cast<TensorView*>(command.payload.get()) = arrived;
  device->stream.push(std::move(command));
}

namespace {
// Many-parameter calls move 128 parameters of four tensors at once. Ranks that are too large are for the table to refuse.
constexpr int kMaxOperands = 512, kMaxScalars = 512, kMaxGiven = 16;
std::atomic<bool> device_taken{false};

Napi::Value configure(const Napi::CallbackInfo& info) {
  device->not_recorded("configure");
  if (!device->stream.idle())
    throw CodedError("ERR_NATIVE", format("configure: %zu commands are pending; await fence() first", device->stream.pending()));
  const Napi::Object options = info[0].As<Napi::Object>();
  if (const Napi::Value threads = options.Get("threads"); !threads.IsUndefined()) {
    const int64_t count = integer(threads, "configure: threads");
    if (count < 1 || count > 1024) throw CodedError("ERR_NATIVE", format("configure: threads is 1 to 1024, got %lld", static_cast<long long>(count)));
    device->stream.threads = static_cast<int>(count);
  }
  if (const Napi::Value kernels = options.Get("kernels"); !kernels.IsUndefined()) {
    const std::string kind = kernels.ToString();
    if (kind != "fast" && kind != "reference")
      throw CodedError("ERR_NATIVE", format("configure: kernels is \"fast\" or \"reference\", got \"%s\"", kind.c_str()));
    device->stream.reference = kind == "reference";
  }
  if (const Napi::Value guard = options.Get("guard"); !guard.IsUndefined()) device->stream.guard = guard.ToBoolean();
  if (const Napi::Value limit = options.Get("limitBytes"); !limit.IsUndefined()) device->pool.limit(size(limit, "configure: limitBytes"));
  device->stream.clear();
  return info.Env().Undefined();
}

Command copy_command(const char* name, void* target, const void* source, size_t bytes) {
  Command command;
  command.kind = Command::Kind::copy;
  command.name = name;
  command.target = target;
  command.source = source;
  command.bytes = bytes;
  return command;
}

/// With the guard, memory that nobody has written yet shows.
void fill_unwritten(const TensorView& made) {
  if (!device->stream.guard) return;
  Command command = copy_command("allocate", made.data, nullptr, made.bytes());
  command.kind = Command::Kind::fill;
  device->stream.push(std::move(command));
}

Napi::Value allocate(const Napi::CallbackInfo& info) {
  const int64_t dtype = integer(info[0], "allocate: dtype");
  if (dtype < 0 || dtype >= kDTypes) throw CodedError("ERR_DTYPE", format("allocate: there is no dtype %lld", static_cast<long long>(dtype)));
  int64_t shape[kMaxGiven];
  const int rank = numbers(info[1], shape, kMaxGiven, "allocate: shape");
  const int64_t handle = device->tensors.allocate(static_cast<DType>(dtype), shape, rank);
  if (device->recorder) device->recorder->made(handle);
  fill_unwritten(device->tensors.find(handle, "allocate"));
  return Napi::Number::New(info.Env(), static_cast<double>(handle));
}

Napi::Value view(const Napi::CallbackInfo& info) {
  int64_t shape[kMaxGiven];
  const int rank = numbers(info[1], shape, kMaxGiven, "view: shape");
  return Napi::Number::New(info.Env(), static_cast<double>(device->tensors.view(integer(info[0], "view"), shape, rank)));
}

Napi::Value free_tensor(const Napi::CallbackInfo& info) {
  if (const uint64_t ended = device->tensors.free(integer(info[0], "free"))) device->programs.ended(ended);
  return info.Env().Undefined();
}

Napi::Value vacate(const Napi::CallbackInfo& info) {
  if (device->recorder) throw CodedError("ERR_COMPILE", "vacate: a step is being recorded, and its memory must stay where it is");
  device->tensors.vacate(integer(info[0], "vacate"));
  return info.Env().Undefined();
}

Napi::Value refill(const Napi::CallbackInfo& info) {
  fill_unwritten(device->tensors.refill(integer(info[0], "refill")));
  return info.Env().Undefined();
}

Napi::Value kernel(const Napi::CallbackInfo& info) {
  const std::string name = info[0].ToString();
  const int index = find_kernel(name.c_str());
  if (index < 0) throw CodedError("ERR_NATIVE", format("the addon has no kernel named \"%s\"; rebuild it with npm run setup", name.c_str()));
  return Napi::Number::New(info.Env(), index);
}

Napi::Value kernels(const Napi::CallbackInfo& info) {
  std::vector<std::string> names;
  for (int i = 0; i < kernel_count(); ++i) names.emplace_back(kernel_name(i));
  std::sort(names.begin(), names.end());
  return strings(info.Env(), names);
}

Napi::Value launch(const Napi::CallbackInfo& info) {
  const int64_t index = integer(info[0], "launch: kernel");
  if (index < 0 || index >= kernel_count()) throw CodedError("ERR_NATIVE", format("launch: there is no kernel %lld", static_cast<long long>(index)));
  Command command;
  command.kind = Command::Kind::kernel;
  command.kernel = static_cast<int>(index);
  command.name = kernel_name(command.kernel);
  int64_t handles[kMaxOperands];
  double scalars[kMaxScalars];
  command.tensors = numbers(info[1], handles, kMaxOperands, command.name);
  command.scalars = numbers(info[2], scalars, kMaxScalars, command.name);
  command.payload = device->staging.take(sizeof(TensorView) * command.tensors + sizeof(double) * command.scalars);
  auto* views = reinterpret_cast<TensorView*>(command.payload.get());
  for (int i = 0; i < command.tensors; ++i)
    views[i] = handles[i] ? device->tensors.find(handles[i], command.name, i) : TensorView{};
  std::copy_n(scalars, command.scalars, reinterpret_cast<double*>(views + command.tensors));
  if (device->recorder) device->recorder->kernel(command.kernel, command.name, handles, views, command.tensors, scalars, command.scalars);
  device->stream.push(std::move(command));
  return info.Env().Undefined();
}

Napi::Value upload(const Napi::CallbackInfo& info) {
  const int64_t handle = integer(info[0], "upload");
  const TensorView& target = device->tensors.find(handle, "upload");
  const Bytes source = bytes_of(info[1], "upload");
  if (source.length != target.bytes())
    throw CodedError("ERR_SHAPE", format("upload: the tensor (%s) has %zu bytes, the data %zu", dtype_name(target.dtype), target.bytes(), source.length));
  Staging::Buffer kept = device->staging.take(source.length);
  if (source.length) std::memcpy(kept.get(), source.data, source.length);
  if (device->recorder) device->recorder->upload(handle, target, kept.get());
  Command command = copy_command("upload", target.data, kept.get(), source.length);
  command.payload = std::move(kept);
  device->stream.push(std::move(command));
  check_arrival("upload", target);
  return info.Env().Undefined();
}

Napi::Value read(const Napi::CallbackInfo& info) {
  device->not_recorded("read");
  const TensorView& source = device->tensors.find(integer(info[0], "read"), "read");
  Napi::ArrayBuffer target = Napi::ArrayBuffer::New(info.Env(), source.bytes());
  Command command = copy_command("read", target.Data(), source.data, source.bytes());
  const Completions::Ticket ticket = device->completions.open(info.Env(), target);
  command.completion = ticket.id;
  device->stream.push(std::move(command));
  return ticket.promise;
}

Napi::Value fence(const Napi::CallbackInfo& info) {
  device->not_recorded("fence");
  Command command;
  command.name = "fence";
  const Completions::Ticket ticket = device->completions.open(info.Env());
  command.completion = ticket.id;
  device->stream.push(std::move(command));
  return ticket.promise;
}

Napi::Value stamp(const Napi::CallbackInfo& info) {
  device->not_recorded("stamp");
  const size_t number = device->stamps.size();
  Command command;
  command.kind = Command::Kind::stamp;
  command.name = "stamp";
  command.target = device->stamps.next();
  device->stream.push(std::move(command));
  return Napi::Number::New(info.Env(), static_cast<double>(number));
}

/// For measuring schedules: the stream is busy for a time, but no core is.
Napi::Value occupy(const Napi::CallbackInfo& info) {
  device->not_recorded("occupy");
  Command command;
  command.kind = Command::Kind::action;
  command.name = "occupy";
  command.argument = integer(info[0], "occupy: microseconds");
  command.action = [](int64_t us) { std::this_thread::sleep_for(std::chrono::microseconds(us)); };
  device->stream.push(std::move(command));
  return info.Env().Undefined();
}

/// Microseconds: a double holds them to the nanosecond for a hundred days of uptime.
Napi::Value stamps_take(const Napi::CallbackInfo& info) {
  if (!device->stream.idle())
    throw CodedError("ERR_NATIVE", format("stampsTake: %zu commands are pending; await fence() first", device->stream.pending()));
  const std::deque<int64_t> times = device->stamps.take();
  Napi::Float64Array result = Napi::Float64Array::New(info.Env(), times.size());
  for (size_t i = 0; i < times.size(); ++i) result[i] = static_cast<double>(times[i]) / 1000;
  return result;
}

Napi::Value memory(const Napi::CallbackInfo& info) {
  const PoolCounts& counts = device->pool.counts();
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("bytesInUse", static_cast<double>(counts.bytes_in_use));
  result.Set("bytesReserved", static_cast<double>(counts.bytes_reserved));
  result.Set("bytesPeak", static_cast<double>(counts.bytes_peak));
  result.Set("bytesLimit", static_cast<double>(device->pool.limit()));
  result.Set("tensors", static_cast<double>(device->tensors.tensors()));
  return result;
}

Napi::Value timings(const Napi::CallbackInfo& info) {
  if (!device->stream.idle()) throw CodedError("ERR_NATIVE", "timings: commands are pending; await fence() first");
  Napi::Array result = Napi::Array::New(info.Env());
  for (const TimingRow& row : timings_rows()) {
    Napi::Object line = Napi::Object::New(info.Env());
    line.Set("kernel", row.kernel);
    line.Set("operands", row.operands);
    line.Set("calls", static_cast<double>(row.calls));
    line.Set("milliseconds", row.milliseconds);
    line.Set("cpu", row.cpu);
    line.Set("bytes", row.bytes);
    result.Set(result.Length(), line);
  }
  timings_switch(info[0].ToBoolean());
  return result;
}

Napi::Value reset_peak(const Napi::CallbackInfo& info) {
  device->pool.reset_peak();
  return info.Env().Undefined();
}

Napi::Value pending(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(device->stream.pending()));
}

Napi::Value slab_create(const Napi::CallbackInfo& info) {
  const int slab = device->slabs.create(size(info[0], "slabCreate"));
  const Slab& created = device->slabs.find(slab);
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("slab", slab);
  result.Set("pid", static_cast<double>(getpid()));
  result.Set("fd", created.fd);
  result.Set("bytes", static_cast<double>(created.mapping->bytes));
  result.Set("inode", static_cast<double>(created.inode));
  return result;
}

Napi::Value slab_open(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), device->slabs.open(integer(info[0], "slabOpen: pid"), static_cast<int>(integer(info[1], "slabOpen: fd")),
                                                          size(info[2], "slabOpen: bytes"), size(info[3], "slabOpen: inode")));
}

Napi::Value slab_close(const Napi::CallbackInfo& info) {
  const int slab = static_cast<int>(integer(info[0], "slabClose"));
  const bool ours = device->slabs.find(slab).fd >= 0;  // what UCX made goes with its last user
  device->slabs.close(slab);
#ifdef OCTAVO_UCX
  if (device->ucx && ours) device->ucx->forget(slab);
#endif
  return info.Env().Undefined();
}

Napi::Value slab_write(const Napi::CallbackInfo& info) {
  device->not_recorded("slabWrite");
  const TensorView& source = device->tensors.find(integer(info[0], "slabWrite"), "slabWrite");
  void* target = device->slabs.at(static_cast<int>(integer(info[1], "slabWrite: slab")), size(info[2], "slabWrite: offset"), source.bytes());
  device->stream.push(copy_command("slabWrite", target, source.data, source.bytes()));
  return info.Env().Undefined();
}

Napi::Value slab_stamp(const Napi::CallbackInfo& info) {
  device->slabs.stamp(static_cast<int>(integer(info[0], "slabStamp")), size(info[1], "slabStamp: offset"), size(info[2], "slabStamp: generation"));
  return info.Env().Undefined();
}

/// What a tensor in a slab holds on to: the memory, and the promise that is kept when nothing queued uses it any more.
struct SliceUse {
  std::shared_ptr<const Mapping> mapping;
  uint64_t completion;
  napi_env env;
  ~SliceUse() {
    if (device->ending) return;
    Command command;
    command.name = "free";
    command.completion = completion;
    device->completions.begin(env);
    device->stream.push(std::move(command));
  }
};

Napi::Value slab_tensor(const Napi::CallbackInfo& info) {
  device->not_recorded("slabTensor");
  const Napi::Env env = info.Env();
  const int slab = static_cast<int>(integer(info[0], "slabTensor"));
  const size_t offset = size(info[1], "slabTensor: offset"), generation = size(info[4], "slabTensor: generation");
  const int64_t dtype = integer(info[2], "slabTensor: dtype");
  if (dtype < 0 || dtype >= kDTypes) throw CodedError("ERR_DTYPE", format("slabTensor: there is no dtype %lld", static_cast<long long>(dtype)));
  int64_t shape[kMaxGiven];
  const int rank = numbers(info[3], shape, kMaxGiven, "slabTensor: shape");
  const uint64_t found = device->slabs.stamp(slab, offset);
  if (found != generation)
    throw CodedError("ERR_LANE", format("slabTensor: the slice at %zu is of generation %llu, expected %zu: it was taken back", offset,
                                        static_cast<unsigned long long>(found), generation));
  const Completions::Ticket ticket = device->completions.open_idle(env);
  const std::shared_ptr<void> use(new SliceUse{device->slabs.find(slab).mapping, ticket.id, env});
  const int64_t handle = device->tensors.adopt(static_cast<DType>(dtype), shape, rank, device->slabs.at(slab, offset, 0), use);
  const TensorView& made = device->tensors.find(handle, "slabTensor");
  try {
    device->slabs.at(slab, offset, made.bytes());
  } catch (const CodedError&) {
    device->tensors.free(handle);
    throw;
  }
  if (info[5].ToBoolean()) check_arrival("slabTensor", made);
  Napi::Object result = Napi::Object::New(env);
  result.Set("handle", static_cast<double>(handle));
  result.Set("freed", ticket.promise);
  return result;
}

Napi::Value end_with_parent(const Napi::CallbackInfo& info) {
  die_with_parent(info[0].IsUndefined() ? 0 : integer(info[0], "dieWithParent: pid"));
  return info.Env().Undefined();
}

Napi::Value about(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const GemmLibrary& library = gemm_library();
  Napi::Object gemm = Napi::Object::New(env);
  gemm.Set("library", library.library);
  if (!library.version.empty()) gemm.Set("version", library.version);
  gemm.Set("f32", library.f32);
  gemm.Set("bf16", library.bf16);
  gemm.Set("fastBf16", library.fast_bf16);
  gemm.Set("tried", strings(env, library.tried));
  const CudaInfo found = cuda_info();
  Napi::Object cuda = Napi::Object::New(env);
  cuda.Set("compiled", found.compiled);
  cuda.Set("devices", found.devices);
  cuda.Set("note", found.note);
  Napi::Object result = Napi::Object::New(env);
  result.Set("cores", host_cores());
  result.Set("isa", strings(env, host_isa()));
  result.Set("isaLimit", isa_limit_name());
  result.Set("clones", isa_clone());
  result.Set("threads", device->stream.threads);
  result.Set("gemm", gemm);
  result.Set("cuda", cuda);
  result.Set("openmp", host_openmp());
  return result;
}

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  if (device_taken.exchange(true))
    throw coded(env, "ERR_NATIVE", "another JavaScript thread of this process owns the device already");
  try {
    isa_limit();
    device = new Device(env);
  } catch (const CodedError& error) {
    device_taken = false;
    throw coded(env, error.code, error.what());
  }
  // process.exit() runs the exit handlers of libraries while threads still use them, and no cleanup hooks: stop before.
  const Napi::Object process = env.Global().Get("process").As<Napi::Object>();
  process.Get("once").As<Napi::Function>().Call(process, {Napi::String::New(env, "exit"), Napi::Function::New(env, [](const Napi::CallbackInfo&) {
    if (device) device->stop();
  })});
  env.AddCleanupHook([] {
    delete device;
    device = nullptr;
    device_taken = false;
  });
#define OCTAVO_EXPORT(name, function) exports.Set(name, Napi::Function::New<guarded<function>>(env, name))
  OCTAVO_EXPORT("configure", configure);
  OCTAVO_EXPORT("allocate", allocate);
  OCTAVO_EXPORT("view", view);
  OCTAVO_EXPORT("free", free_tensor);
  OCTAVO_EXPORT("vacate", vacate);
  OCTAVO_EXPORT("refill", refill);
  OCTAVO_EXPORT("kernel", kernel);
  OCTAVO_EXPORT("kernels", kernels);
  OCTAVO_EXPORT("launch", launch);
  OCTAVO_EXPORT("upload", upload);
  OCTAVO_EXPORT("read", read);
  OCTAVO_EXPORT("fence", fence);
  OCTAVO_EXPORT("stamp", stamp);
  OCTAVO_EXPORT("stampsTake", stamps_take);
  OCTAVO_EXPORT("occupy", occupy);
  OCTAVO_EXPORT("memory", memory);
  OCTAVO_EXPORT("timings", timings);
  OCTAVO_EXPORT("resetPeak", reset_peak);
  OCTAVO_EXPORT("pending", pending);
  OCTAVO_EXPORT("slabCreate", slab_create);
  OCTAVO_EXPORT("slabOpen", slab_open);
  OCTAVO_EXPORT("slabClose", slab_close);
  OCTAVO_EXPORT("slabWrite", slab_write);
  OCTAVO_EXPORT("slabStamp", slab_stamp);
  OCTAVO_EXPORT("slabTensor", slab_tensor);
  OCTAVO_EXPORT("dieWithParent", end_with_parent);
  OCTAVO_EXPORT("info", about);
#undef OCTAVO_EXPORT
  export_programs(env, exports);
  export_fabric(env, exports);
  export_groups(env, exports);
  return exports;
}
}  // namespace

NODE_API_MODULE(octavo, initialise)
