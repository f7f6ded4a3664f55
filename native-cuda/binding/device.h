// The device behind the addon's functions: everything that one JavaScript thread owns.
#pragma once
#include <napi.h>

#include <memory>

#include "../comm/slab.h"
#include "../comm/ucx.h"
#include "../device/guard.h"
#include "../device/handle_table.h"
#include "../device/host.h"
#include "../device/pool.h"
#include "../device/program.h"
#include "../device/staging.h"
#include "../device/stamps.h"
#include "../device/stream.h"
#include "completions.h"
#include "groups.h"

struct Device {
  Completions completions;
  Groups groups;
  SlabTable slabs;
#ifdef OCTAVO_UCX
  std::unique_ptr<UcxEngine> ucx;  // made by the first who asks for it
#endif
  Staging staging;
  Stamps stamps;
  Pool pool;
  HandleTable tensors;
  ProgramTable programs;
  std::unique_ptr<Recorder> recorder;  // while a recording is open
  bool ending = false;                 // the stream is gone: nothing may be pushed
  Stream stream;                       // last: its thread is joined before anything that it uses goes

  explicit Device(Napi::Env env)
      : completions(env),
        slabs([this](void* data, size_t bytes) {
          Command command;
          command.kind = Command::Kind::unmap;
          command.name = "slabClose";
          command.target = data;
          command.bytes = bytes;
          if (!ending) stream.push(std::move(command));  // else the system unmaps
        }),
        pool([this](Block block) {
          Command command;
          command.kind = Command::Kind::release;
          command.name = "release";
          command.target = block.data;
          command.bytes = block.reserved;
          stream.push(std::move(command));
        }),
        tensors(pool),
        stream([this](uint64_t id, const StreamFault* fault) { completions.report(id, fault); }) {
    stream.threads = host_cores();
    stream.guard = guard_from_environment();
    stream.on_fault = [](const StreamFault& fault) { group_table().abort_all(fault.op + " failed: " + fault.message); };
  }

  ~Device() {
    ending = true;
    stop();
  }

  /// Ends what may wait for others, then the stream.
  void stop() {
    groups.stop();
    stream.stop();
#ifdef OCTAVO_UCX
    ucx.reset();
#endif
    group_table().clear();
  }

  /// For what a program cannot repeat: throws ERR_COMPILE while a recording is open.
  void not_recorded(const char* what) const {
    if (recorder) throw CodedError("ERR_COMPILE", format("%s: not possible while a step is recorded. Do it before or after.", what));
  }
};

// Heap object behind a pointer: its stream thread must be joined by the cleanup hook, before the environment goes.
extern Device* device;

/// With the guard on, what came from outside is looked at when it has arrived.
void check_arrival(const char* by, const TensorView& arrived);

/// The functions of programs.cpp and fabric.cpp.
void export_programs(Napi::Env env, Napi::Object exports);
void export_fabric(Napi::Env env, Napi::Object exports);
