#include "ucx_library.h"

#ifndef OCTAVO_UCX

const UcxFacts& ucx_facts() {
  static const UcxFacts facts{false, "", "built without the headers of libucx-dev"};
  return facts;
}

#else
#include <dlfcn.h>

#include "../common/fault.h"

namespace {
struct Opened {
  UcxFacts facts;
  UcxLibrary library;
};

template <class F> bool bind(void* from, const char* name, F& function) {
  return (function = reinterpret_cast<F>(dlsym(from, name))) != nullptr;
}

Opened open_library() {
  Opened opened;
  void* ucp = dlopen("libucp.so.0", RTLD_NOW | RTLD_LOCAL);
  if (!ucp) {
    opened.facts.reason = format("no libucp: %s", dlerror());
    return opened;
  }
  UcxLibrary& l = opened.library;
  const bool complete = bind(ucp, "ucp_get_version_string", l.get_version_string) && bind(ucp, "ucp_config_read", l.config_read) &&
                        bind(ucp, "ucp_config_release", l.config_release) && bind(ucp, "ucp_init_version", l.init_version) &&
                        bind(ucp, "ucp_cleanup", l.cleanup) && bind(ucp, "ucp_worker_create", l.worker_create) &&
                        bind(ucp, "ucp_worker_destroy", l.worker_destroy) && bind(ucp, "ucp_worker_get_address", l.worker_get_address) &&
                        bind(ucp, "ucp_worker_release_address", l.worker_release_address) && bind(ucp, "ucp_worker_get_efd", l.worker_get_efd) &&
                        bind(ucp, "ucp_worker_arm", l.worker_arm) && bind(ucp, "ucp_worker_progress", l.worker_progress) &&
                        bind(ucp, "ucp_ep_create", l.ep_create) && bind(ucp, "ucp_ep_close_nbx", l.ep_close) &&
                        bind(ucp, "ucp_ep_print_info", l.ep_print_info) && bind(ucp, "ucp_mem_map", l.mem_map) &&
                        bind(ucp, "ucp_mem_unmap", l.mem_unmap) && bind(ucp, "ucp_mem_query", l.mem_query) && bind(ucp, "ucp_rkey_pack", l.rkey_pack) &&
                        bind(ucp, "ucp_rkey_buffer_release", l.rkey_buffer_release) && bind(ucp, "ucp_ep_rkey_unpack", l.rkey_unpack) &&
                        bind(ucp, "ucp_rkey_destroy", l.rkey_destroy) && bind(ucp, "ucp_get_nbx", l.get) &&
                        bind(ucp, "ucp_request_check_status", l.request_check_status) && bind(ucp, "ucp_request_free", l.request_free) &&
                        bind(ucp, "ucs_status_string", l.status_string);
  if (!complete) {
    opened.facts.reason = format("libucp lacks a function: %s", dlerror());
    return opened;
  }
  opened.facts.version = l.get_version_string();
  opened.facts.usable = true;
  return opened;
}

const Opened& opened() {
  static const Opened once = open_library();
  return once;
}
}  // namespace

const UcxFacts& ucx_facts() { return opened().facts; }
const UcxLibrary& ucx_library() { return opened().library; }

#endif
