// One-sided reads between processes by UCX: the receiver fetches a slice of the sender's slab into a slice of its own, by the best
// transport both ends have (InfiniBand and RoCE verbs, cma on one host, tcp). The sender's CPU takes no part where the transport reads
// by itself.
// UX-1: one thread per process owns context, worker and endpoints; it sleeps on the worker's descriptor. No caller waits for bytes.
// UX-2: memory is registered once per slab, and stays registered until the slab is closed and its last read is over. Slabs that UCX makes
//       (`make`) can be reached by its shared-memory transports, at the speed of a copy; any other memory only by those that read by themselves.
// UX-3: a read ends with the bytes, or with ERR_LANE: peer gone, slice taken back (SL-5), endpoint closed. It never stays open after `close`.
// UX-4: a read that `close` gave up may still write into its slice: the caller must not use that slice again.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "../device/command.h"
#include "slab.h"
#include "ucx_library.h"

struct UcxMemory {
  uint64_t address = 0;
  std::string key;  // packed, for peers
};

struct UcxRead {
  uint64_t completion = 0;
  int endpoint = 0;
  uint64_t address = 0;    // of the peer's slice
  std::string key;
  int slab = 0;            // ours, registered
  unsigned char* target = nullptr;
  size_t bytes = 0;
  uint64_t generation = 0;  // that the peer's slice must have
  uint64_t own = 0;         // that ours has
};

#ifdef OCTAVO_UCX
class UcxEngine {
 public:
  /// `settle` is called on the engine's thread, once per read.
  using Settle = std::function<void(uint64_t completion, const StreamFault* fault)>;
  explicit UcxEngine(Settle settle);  // ERR_LANE when UCX has no usable transport
  ~UcxEngine();
  UcxEngine(const UcxEngine&) = delete;
  UcxEngine& operator=(const UcxEngine&) = delete;

  /// What a peer connects to.
  const std::string& address() const { return address_; }
  UcxMemory add(int slab, std::shared_ptr<const Mapping> mapping);  // the same answer for a slab that is registered
  /// Registered memory of UCX's own for slab number `slab`; it goes with `forget`.
  void* make(int slab, size_t bytes);
  void forget(int slab);
  int connect(const std::string& address);
  void read(UcxRead read);
  void close(int endpoint, const std::string& reason);
  /// libucp's own words about the lanes of an endpoint.
  std::string describe(int endpoint);

 private:
  struct Endpoint {
    ucp_ep_h ep = nullptr;
    std::string failure;
    std::map<std::string, ucp_rkey_h> keys;
  };
  struct Region {
    std::shared_ptr<const Mapping> mapping;  // none: the memory is UCX's
    ucp_mem_h memory = nullptr;
    UcxMemory told;
    int reads = 0;
    bool forgotten = false;
  };
  struct Pending {
    UcxEngine* engine;
    UcxRead read;
    bool settled = false;
  };

  void post(std::function<void()> task);
  void wait_for(const std::function<void()>& task);  // rethrows what it throws
  void loop();
  bool take_tasks();
  void open();
  void shut();
  void start(UcxRead read);
  void finish(Pending* pending, ucs_status_t status);
  void settle(Pending& pending, const std::string& failure);
  void end(int endpoint);
  void drop(std::map<int, Region>::iterator region);
  Region& enter(int slab, std::shared_ptr<const Mapping> mapping, size_t bytes);
  std::string words(ucs_status_t status) const { return library_.status_string(status); }

  const UcxLibrary& library_;
  Settle settle_;
  std::string address_;
  ucp_context_h context_ = nullptr;
  ucp_worker_h worker_ = nullptr;
  int worker_event_ = -1, task_event_ = -1;
  std::map<int, Endpoint> endpoints_;
  std::map<int, Region> regions_;
  std::list<Pending> pending_;
  std::atomic<int> next_endpoint_{1};

  std::mutex mutex_;
  std::deque<std::function<void()>> tasks_;
  bool stop_ = false;
  std::thread thread_;
};
#endif
