#include "completions.h"

#include <optional>

#include "convert.h"

namespace {
struct Report {
  uint64_t id;
  std::optional<StreamFault> fault;
};
}  // namespace

Completions::Completions(Napi::Env env) {
  to_javascript_ = Napi::ThreadSafeFunction::New(env, Napi::Function::New(env, [](const Napi::CallbackInfo&) {}),
                                                 "octavo-completions", 0, 1);
  to_javascript_.Unref(env);
}

Completions::Ticket Completions::open(Napi::Env env, Napi::ArrayBuffer value) {
  begin(env);
  const uint64_t id = next_++;
  Waiting waiting{Napi::Promise::Deferred::New(env), {}};
  if (!value.IsEmpty()) waiting.value = Napi::Reference<Napi::ArrayBuffer>::New(value, 1);
  const Napi::Promise promise = waiting.deferred.Promise();
  waiting_.emplace(id, std::move(waiting));
  return {id, promise};
}

Completions::Ticket Completions::open_idle(Napi::Env env) {
  const uint64_t id = next_++;
  const auto deferred = Napi::Promise::Deferred::New(env);
  waiting_.emplace(id, Waiting{deferred, {}});
  return {id, deferred.Promise()};
}

void Completions::begin(Napi::Env env) {
  if (begun_++ == 0) to_javascript_.Ref(env);
}

void Completions::report(uint64_t id, const StreamFault* fault) {
  auto* report = new Report{id, fault ? std::optional(*fault) : std::nullopt};
  const napi_status status = to_javascript_.NonBlockingCall(report, [this](Napi::Env env, Napi::Function, Report* arrived) {
    const std::unique_ptr<Report> owned(arrived);
    settle(env, owned->id, owned->fault ? &*owned->fault : nullptr);
  });
  if (status != napi_ok) delete report;  // only while the environment closes
}

void Completions::settle(Napi::Env env, uint64_t id, const StreamFault* fault) {
  Napi::HandleScope scope(env);
  const auto found = waiting_.find(id);
  Waiting waiting = std::move(found->second);
  waiting_.erase(found);
  if (--begun_ == 0) to_javascript_.Unref(env);
  if (!fault) {
    if (waiting.value.IsEmpty()) waiting.deferred.Resolve(env.Undefined());
    else waiting.deferred.Resolve(waiting.value.Value());
    return;
  }
  if (fault->sequence == 0) return waiting.deferred.Reject(coded(env, fault->code, format("%s: %s", fault->op.c_str(), fault->message.c_str())).Value());
  Napi::Error error = coded(env, fault->code,
                            format("%s failed on the cpu stream at command %llu: %s", fault->op.c_str(),
                                   static_cast<unsigned long long>(fault->sequence), fault->message.c_str()));
  Napi::Object details = Napi::Object::New(env);
  details.Set("op", fault->op);
  details.Set("sequence", static_cast<double>(fault->sequence));
  details.Set("message", fault->message);
  error.Set("details", details);
  waiting.deferred.Reject(error.Value());
}
