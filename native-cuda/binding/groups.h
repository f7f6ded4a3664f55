// What the addon knows of groups while it is loaded: seats by number, and the way of their events to JavaScript.
// GE-1: an event is never reported after `stop`. GE-2: the event loop stays alive while a join is under way, and not longer.
#pragma once
#include <napi.h>

#include <atomic>
#include <map>
#include <memory>
#include <string>

#include "../comm/group_seat.h"

class Groups {
 public:
  ~Groups() { stop(); }
  /// Every group of this process is given up, and what waits in the stream ends. For `exit` and the end of the environment.
  void stop();

  Napi::Value seat(const Napi::CallbackInfo& info);
  Napi::Value join(const Napi::CallbackInfo& info);
  Napi::Value drop(const Napi::CallbackInfo& info);

 private:
  struct Event {
    enum Kind { joined, refused, failed } kind;
    int64_t seat, group;
    std::string code, message;
  };
  void report(Event event);

  Napi::ThreadSafeFunction events_;
  bool listening_ = false;
  std::atomic<bool> stopped_{false};
  int joining_ = 0;
  std::map<int64_t, std::unique_ptr<GroupSeat>> seats_;
  int64_t next_ = 1;
};

/// The functions of groups.cpp.
void export_groups(Napi::Env env, Napi::Object exports);
