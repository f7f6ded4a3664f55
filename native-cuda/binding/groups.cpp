#include "groups.h"

#include "convert.h"
#include "device.h"

namespace {
std::string hex(const Token& token) {
  std::string text;
  for (const char c : token) text += format("%02x", static_cast<unsigned char>(c));
  return text;
}

Token from_hex(const std::string& text) {
  if (text.size() != 2 * kTokenBytes || text.find_first_not_of("0123456789abcdef") != std::string::npos)
    throw CodedError("ERR_COLLECTIVE", format("joinGroup: a token of %zu hexadecimal digits expected", 2 * kTokenBytes));
  Token token;
  for (size_t i = 0; i < text.size(); i += 2) token += static_cast<char>(std::stoi(text.substr(i, 2), nullptr, 16));
  return token;
}

std::string text_of(const Napi::Object& object, const char* field) { return object.Get(field).ToString(); }

OfferedMember member_of(const Napi::Object& object) {
  OfferedMember member;
  member.member = {text_of(object, "member"), text_of(object, "host")};
  member.shared = object.Get("shared").ToBoolean();
  member.address = text_of(object, "address");
  SeatOffer& offer = member.offer;
  offer.pid = integer(object.Get("pid"), "joinGroup: pid"), offer.start = size(object.Get("start"), "joinGroup: start");
  offer.segment = static_cast<int>(integer(object.Get("segment"), "joinGroup: segment")), offer.wake = static_cast<int>(integer(object.Get("wake"), "joinGroup: wake"));
  offer.inode = size(object.Get("inode"), "joinGroup: inode");
  offer.port = static_cast<int>(integer(object.Get("port"), "joinGroup: port"));
  offer.token = from_hex(text_of(object, "token"));
  return member;
}
}  // namespace

Napi::Value Groups::seat(const Napi::CallbackInfo& info) {
  const Napi::Object options = info[0].As<Napi::Object>();
  auto made = std::make_unique<GroupSeat>(text_of(options, "name"), static_cast<int>(integer(options.Get("rank"), "offerGroup: rank")),
                                          static_cast<int>(integer(options.Get("size"), "offerGroup: size")), text_of(options, "address"));
  const SeatOffer& offer = made->offer();
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("seat", static_cast<double>(next_));
  result.Set("pid", static_cast<double>(offer.pid));
  result.Set("start", static_cast<double>(offer.start));
  result.Set("segment", offer.segment);
  result.Set("inode", static_cast<double>(offer.inode));
  result.Set("wake", offer.wake);
  result.Set("port", offer.port);
  result.Set("token", hex(offer.token));
  seats_.emplace(next_++, std::move(made));
  return result;
}

Napi::Value Groups::join(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int64_t number = integer(info[0], "groupJoin");
  const auto found = seats_.find(number);
  if (found == seats_.end()) throw CodedError("ERR_COLLECTIVE", "joinGroup: this seat was joined and closed, or never offered");
  const Napi::Array given = info[1].As<Napi::Array>();
  std::vector<OfferedMember> members;
  for (uint32_t i = 0; i < given.Length(); ++i) members.push_back(member_of(given.Get(i).As<Napi::Object>()));
  if (!listening_) {
    listening_ = true;
    events_ = Napi::ThreadSafeFunction::New(env, info[3].As<Napi::Function>(), "octavo-groups", 0, 1);
    events_.Unref(env);
  }
  if (joining_++ == 0) events_.Ref(env);
  found->second->join(
      std::move(members), integer(info[2], "groupJoin: timeoutMs"),
      [this, number](const GroupFailure& failure) { report({Event::failed, number, 0, failure.code, failure.message}); },
      [this, number](std::shared_ptr<Group> group, const std::string& error) {
        const int64_t entered = group ? group_table().add(std::move(group)) : 0;
        report({entered ? Event::joined : Event::refused, number, entered, "ERR_COLLECTIVE", error});
      });
  return env.Undefined();
}

/// From any thread.
void Groups::report(Event event) {
  if (stopped_) return;
  auto* reported = new Event(std::move(event));
  const napi_status status = events_.NonBlockingCall(reported, [this](Napi::Env env, Napi::Function listener, Event* arrived) {
    const std::unique_ptr<Event> owned(arrived);
    if (stopped_) return;
    if (owned->kind != Event::failed && --joining_ == 0) events_.Unref(env);
    constexpr const char* kinds[] = {"joined", "refused", "failed"};
    listener.Call({Napi::String::New(env, kinds[owned->kind]), Napi::Number::New(env, static_cast<double>(owned->seat)),
                   Napi::Number::New(env, static_cast<double>(owned->group)), Napi::String::New(env, owned->code), Napi::String::New(env, owned->message)});
  });
  if (status != napi_ok) delete reported;  // only while the environment closes
}

Napi::Value Groups::drop(const Napi::CallbackInfo& info) {
  seats_.erase(integer(info[0], "groupDrop"));
  return info.Env().Undefined();
}

void Groups::stop() {
  const bool again = stopped_.exchange(true);  // first: JavaScript cannot hear any more
  group_table().abort_all("its process ends");
  if (again) return;
  seats_.clear();
  if (listening_) events_.Release();
}

namespace {
Napi::Value group_seat(const Napi::CallbackInfo& info) { return device->groups.seat(info); }
Napi::Value group_join(const Napi::CallbackInfo& info) { return device->groups.join(info); }
Napi::Value group_drop(const Napi::CallbackInfo& info) { return device->groups.drop(info); }

Napi::Value group_abort(const Napi::CallbackInfo& info) {
  group_table().find(integer(info[0], "groupAbort"))->abort(info[1].ToString());
  return info.Env().Undefined();
}

Napi::Value group_failure(const Napi::CallbackInfo& info) {
  const std::optional<GroupFailure> failure = group_table().find(integer(info[0], "groupFailure"))->failure();
  if (!failure) return info.Env().Undefined();
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("code", failure->code);
  result.Set("message", failure->message);
  return result;
}

/// In stream order: calls enqueued before still run.
Napi::Value group_leave(const Napi::CallbackInfo& info) {
  Command command;
  command.kind = Command::Kind::action;
  command.name = "groupLeave";
  command.argument = integer(info[0], "groupLeave");
  command.action = [](int64_t number) { group_table().leave(number); };
  device->stream.push(std::move(command));
  return info.Env().Undefined();
}
}  // namespace

void export_groups(Napi::Env env, Napi::Object exports) {
#define OCTAVO_EXPORT(name, function) exports.Set(name, Napi::Function::New<guarded<function>>(env, name))
  OCTAVO_EXPORT("groupSeat", group_seat);
  OCTAVO_EXPORT("groupJoin", group_join);
  OCTAVO_EXPORT("groupDrop", group_drop);
  OCTAVO_EXPORT("groupAbort", group_abort);
  OCTAVO_EXPORT("groupFailure", group_failure);
  OCTAVO_EXPORT("groupLeave", group_leave);
#undef OCTAVO_EXPORT
}
