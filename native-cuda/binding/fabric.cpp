// The functions of the addon that reach into a peer's memory by UCX. Typed and documented in runtime/native.ts.
#include <unistd.h>

#include "device.h"
#include "convert.h"

namespace {
Napi::Value ucx_info(const Napi::CallbackInfo& info) {
  const UcxFacts& facts = ucx_facts();
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("usable", facts.usable);
  if (facts.usable) result.Set("version", facts.version);
  else result.Set("reason", facts.reason);
  return result;
}

#ifdef OCTAVO_UCX
UcxEngine& engine() {
  if (!ucx_facts().usable) throw CodedError("ERR_LANE", format("ucx: %s", ucx_facts().reason.c_str()));
  if (!device->ucx) device->ucx = std::make_unique<UcxEngine>([](uint64_t id, const StreamFault* fault) { device->completions.report(id, fault); });
  return *device->ucx;
}

int number(const Napi::CallbackInfo& info, size_t index, const char* what) { return static_cast<int>(integer(info[index], what)); }

std::string text_of(Napi::Value value, const char* what) {
  const Bytes bytes = bytes_of(value, what);
  return {reinterpret_cast<const char*>(bytes.data), bytes.length};
}

Napi::Value ucx_address(const Napi::CallbackInfo& info) {
  const std::string& address = engine().address();
  return Napi::Buffer<char>::Copy(info.Env(), address.data(), address.size());
}

/// Memory of UCX's own: like that of `slabCreate`, but only UCX can open it elsewhere.
Napi::Value ucx_slab(const Napi::CallbackInfo& info) {
  const size_t bytes = size(info[0], "ucxSlab");
  const int slab = device->slabs.reserve();
  void* data = engine().make(slab, bytes);
  device->slabs.put(slab, {new Mapping{data, bytes}, [slab](const Mapping* ended) {
                             delete ended;
                             if (device->ending) return;
                             Command command;  // queued commands may still use it: it goes when they are done
                             command.kind = Command::Kind::action;
                             command.name = "slabClose";
                             command.argument = slab;
                             command.action = [](int64_t closed) { device->ucx->forget(static_cast<int>(closed)); };
                             device->stream.push(std::move(command));
                           }});
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("slab", slab);
  result.Set("pid", static_cast<double>(getpid()));
  result.Set("fd", -1);
  result.Set("bytes", static_cast<double>(bytes));
  result.Set("inode", 0);
  return result;
}

Napi::Value ucx_register(const Napi::CallbackInfo& info) {
  const int slab = number(info, 0, "ucxRegister");
  const UcxMemory told = engine().add(slab, device->slabs.find(slab).mapping);
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("address", static_cast<double>(told.address));
  result.Set("key", Napi::Buffer<char>::Copy(info.Env(), told.key.data(), told.key.size()));
  return result;
}

Napi::Value ucx_connect(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), engine().connect(text_of(info[0], "ucxConnect: address")));
}

Napi::Value ucx_read(const Napi::CallbackInfo& info) {
  UcxRead read;
  read.endpoint = number(info, 0, "ucxRead");
  read.address = size(info[1], "ucxRead: address");
  read.key = text_of(info[2], "ucxRead: key");
  read.slab = number(info, 3, "ucxRead: slab");
  const size_t offset = size(info[4], "ucxRead: offset");
  read.bytes = size(info[5], "ucxRead: bytes");
  read.generation = size(info[6], "ucxRead: generation");
  read.target = static_cast<unsigned char*>(device->slabs.at(read.slab, offset, read.bytes));
  read.own = device->slabs.stamp(read.slab, offset);
  const Completions::Ticket ticket = device->completions.open(info.Env());
  read.completion = ticket.id;
  engine().read(std::move(read));
  return ticket.promise;
}

Napi::Value ucx_close(const Napi::CallbackInfo& info) {
  engine().close(number(info, 0, "ucxClose"), info[1].ToString());
  return info.Env().Undefined();
}

Napi::Value ucx_describe(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), engine().describe(number(info, 0, "ucxDescribe")));
}
#else
template <int> Napi::Value absent(const Napi::CallbackInfo&) { throw CodedError("ERR_LANE", format("ucx: %s", ucx_facts().reason.c_str())); }
constexpr auto ucx_address = absent<0>, ucx_slab = absent<0>, ucx_register = absent<0>, ucx_connect = absent<0>, ucx_read = absent<0>, ucx_close = absent<0>, ucx_describe = absent<0>;
#endif
}  // namespace

void export_fabric(Napi::Env env, Napi::Object exports) {
#define OCTAVO_EXPORT(name, function) exports.Set(name, Napi::Function::New<guarded<function>>(env, name))
  OCTAVO_EXPORT("ucxInfo", ucx_info);
  OCTAVO_EXPORT("ucxAddress", ucx_address);
  OCTAVO_EXPORT("ucxSlab", ucx_slab);
  OCTAVO_EXPORT("ucxRegister", ucx_register);
  OCTAVO_EXPORT("ucxConnect", ucx_connect);
  OCTAVO_EXPORT("ucxRead", ucx_read);
  OCTAVO_EXPORT("ucxClose", ucx_close);
  OCTAVO_EXPORT("ucxDescribe", ucx_describe);
#undef OCTAVO_EXPORT
}
