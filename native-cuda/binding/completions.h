// Promises that the stream settles. Created and settled on the JavaScript thread; the stream only names them.
// CO-1: they settle in the order of their commands. CO-2: the event loop stays alive while one is open and begun, and not longer.
#pragma once
#include <napi.h>

#include <unordered_map>

#include "../device/command.h"

class Completions {
 public:
  explicit Completions(Napi::Env env);
  /// The environment ends: what is open is never settled.
  ~Completions() { to_javascript_.Release(); }
  Completions(const Completions&) = delete;
  Completions& operator=(const Completions&) = delete;

  struct Ticket {
    uint64_t id;
    Napi::Promise promise;
  };
  /// A promise of `value` (undefined when empty), which stays alive until the stream is done with it.
  Ticket open(Napi::Env env, Napi::ArrayBuffer value = {});
  /// One that may wait for ever: the event loop is not kept alive until `begin`.
  Ticket open_idle(Napi::Env env);
  void begin(Napi::Env env);
  /// From the stream's thread.
  void report(uint64_t id, const StreamFault* fault);

 private:
  struct Waiting {
    Napi::Promise::Deferred deferred;
    Napi::Reference<Napi::ArrayBuffer> value;
  };
  void settle(Napi::Env env, uint64_t id, const StreamFault* fault);

  Napi::ThreadSafeFunction to_javascript_;
  std::unordered_map<uint64_t, Waiting> waiting_;
  uint64_t next_ = 1;
  size_t begun_ = 0;
};
