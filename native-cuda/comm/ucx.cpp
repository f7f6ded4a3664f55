#include "ucx.h"

#ifdef OCTAVO_UCX
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstring>
#include <future>

#include "../common/fault.h"

namespace {
/// UCX names this in its logs.
constexpr const char* kName = "octavo";

StreamFault fault_of(const std::string& message) {
  StreamFault fault;
  fault.op = "ucx";
  fault.message = message;
  fault.code = "ERR_LANE";
  return fault;
}
}  // namespace

UcxEngine::UcxEngine(Settle settle) : library_(ucx_library()), settle_(std::move(settle)) {
  task_event_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (task_event_ < 0) throw CodedError("ERR_LANE", format("ucx: eventfd: %s", std::strerror(errno)));
  thread_ = std::thread([this] { loop(); });
  try {
    wait_for([this] { open(); });
  } catch (...) {
    post([this] { stop_ = true; });
    thread_.join();
    ::close(task_event_);
    throw;
  }
}

UcxEngine::~UcxEngine() {
  post([this] { stop_ = true; });
  thread_.join();
  ::close(task_event_);
}

void UcxEngine::post(std::function<void()> task) {
  {
    std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  const uint64_t one = 1;
  if (write(task_event_, &one, sizeof one) < 0 && errno != EAGAIN) std::abort();  // EAGAIN: it is full of wake-ups already
}

void UcxEngine::wait_for(const std::function<void()>& task) {
  std::packaged_task<void()> packaged(task);
  std::future<void> done = packaged.get_future();
  post([&packaged] { packaged(); });
  done.get();
}

// ---- the engine's thread ----

void UcxEngine::loop() {
  pthread_setname_np(pthread_self(), "octavo-ucx");
  while (!take_tasks()) {
    if (worker_) {
      if (library_.worker_progress(worker_)) continue;
      const ucs_status_t armed = library_.worker_arm(worker_);
      if (armed == UCS_ERR_BUSY) continue;
    }
    pollfd wait[2] = {{task_event_, POLLIN, 0}, {worker_event_, POLLIN, 0}};
    poll(wait, worker_ ? 2 : 1, -1);  // an interrupted wait is a turn too many
  }
  shut();
}

/// True when it is time to end.
bool UcxEngine::take_tasks() {
  uint64_t count;
  if (::read(task_event_, &count, sizeof count) < 0) return stop_;
  std::deque<std::function<void()>> tasks;
  {
    std::lock_guard lock(mutex_);
    tasks.swap(tasks_);
  }
  for (const auto& task : tasks) task();
  return stop_;
}

void UcxEngine::open() {
  const auto check = [this](ucs_status_t status, const char* what) {
    if (status != UCS_OK) throw CodedError("ERR_LANE", format("ucx: %s: %s", what, words(status).c_str()));
  };
  ucp_config_t* config = nullptr;
  check(library_.config_read(nullptr, nullptr, &config), "reading UCX_ variables");
  ucp_params_t params{};
  params.field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_NAME;
  params.features = UCP_FEATURE_RMA | UCP_FEATURE_WAKEUP;
  params.name = kName;
  const ucs_status_t made = library_.init_version(UCP_API_MAJOR, UCP_API_MINOR, &params, config, &context_);
  library_.config_release(config);
  check(made, "no context");
  ucp_worker_params_t worker{};
  worker.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
  worker.thread_mode = UCS_THREAD_MODE_SINGLE;
  ucp_address_t* address = nullptr;
  size_t length = 0;
  try {
    check(library_.worker_create(context_, &worker, &worker_), "no worker");
    check(library_.worker_get_efd(worker_, &worker_event_), "no transport that can wake a sleeping thread");
    check(library_.worker_get_address(worker_, &address, &length), "no address");
  } catch (...) {
    shut();
    throw;
  }
  address_.assign(reinterpret_cast<const char*>(address), length);
  library_.worker_release_address(worker_, address);
}

void UcxEngine::shut() {
  while (!endpoints_.empty()) end(endpoints_.begin()->first);
  pending_.clear();
  for (auto region = regions_.begin(); region != regions_.end();) drop(region++);
  if (worker_) library_.worker_destroy(worker_);
  if (context_) library_.cleanup(context_);
  worker_ = nullptr;
  context_ = nullptr;
}

void UcxEngine::start(UcxRead read) {
  Pending& pending = pending_.emplace_back(Pending{this, std::move(read)});
  const UcxRead& wanted = pending.read;
  const auto refuse = [&](const std::string& why) {
    settle(pending, why);
    pending_.pop_back();
  };
  const auto region = regions_.find(wanted.slab);
  if (region == regions_.end()) return refuse(format("slab %d is not registered", wanted.slab));
  const auto endpoint = endpoints_.find(wanted.endpoint);
  if (endpoint == endpoints_.end()) return refuse("the way to the peer was closed");
  if (!endpoint->second.failure.empty()) return refuse(endpoint->second.failure);
  ucp_rkey_h& key = endpoint->second.keys[wanted.key];
  if (!key) {
    const ucs_status_t status = library_.rkey_unpack(endpoint->second.ep, wanted.key.data(), &key);
    if (status != UCS_OK) {
      endpoint->second.keys.erase(wanted.key);
      return refuse(format("the peer's memory cannot be reached: %s", words(status).c_str()));
    }
  }
  ucp_request_param_t param{};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_MEMH;
  param.cb.send = [](void* request, ucs_status_t status, void* user) {
    auto* done = static_cast<Pending*>(user);
    UcxEngine& engine = *done->engine;
    engine.finish(done, status);
    engine.library_.request_free(request);
  };
  param.user_data = &pending;
  param.memh = region->second.memory;
  ++region->second.reads;
  const ucs_status_ptr_t request =
      library_.get(endpoint->second.ep, wanted.target - kSliceHead, wanted.bytes + kSliceHead, wanted.address - kSliceHead, key, &param);
  if (!UCS_PTR_IS_PTR(request)) finish(&pending, UCS_PTR_STATUS(request));
}

void UcxEngine::finish(Pending* pending, ucs_status_t status) {
  const UcxRead& read = pending->read;
  auto* head = reinterpret_cast<std::atomic<uint64_t>*>(read.target - kSliceHead);
  const uint64_t found = head->exchange(read.own);
  if (status != UCS_OK) settle(*pending, format("%s", words(status).c_str()));
  else if (found != read.generation)
    settle(*pending, format("the slice is of generation %llu, expected %llu: it was taken back", static_cast<unsigned long long>(found),
                            static_cast<unsigned long long>(read.generation)));
  else settle(*pending, "");
  const auto region = regions_.find(read.slab);
  --region->second.reads;
  pending_.remove_if([pending](const Pending& each) { return &each == pending; });
  if (region->second.forgotten && region->second.reads == 0) drop(region);
}

/// Once per read; "" is success.
void UcxEngine::settle(Pending& pending, const std::string& failure) {
  if (pending.settled) return;
  pending.settled = true;
  if (failure.empty()) return settle_(pending.read.completion, nullptr);
  const StreamFault fault = fault_of(failure);
  settle_(pending.read.completion, &fault);
}

/// Closes by force: what is under way ends with an error, nothing waits for the peer.
void UcxEngine::end(int number) {
  const auto found = endpoints_.find(number);
  if (found == endpoints_.end()) return;
  auto node = endpoints_.extract(found);  // libucp keeps its address until the end
  Endpoint& endpoint = node.mapped();
  for (Pending& pending : pending_)
    if (pending.read.endpoint == number) settle(pending, endpoint.failure.empty() ? "the way to the peer was closed" : endpoint.failure);
  if (!endpoint.ep) return;
  ucp_request_param_t param{};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
  param.flags = UCP_EP_CLOSE_FLAG_FORCE;
  const ucs_status_ptr_t closing = library_.ep_close(endpoint.ep, &param);
  if (UCS_PTR_IS_PTR(closing)) {
    while (library_.request_check_status(closing) == UCS_INPROGRESS) library_.worker_progress(worker_);
    library_.request_free(closing);
  }
  for (const auto& [packed, key] : endpoint.keys) library_.rkey_destroy(key);
}

void UcxEngine::drop(std::map<int, Region>::iterator region) {
  library_.mem_unmap(context_, region->second.memory);
  regions_.erase(region);
}

// ---- what the JavaScript thread asks for ----

UcxMemory UcxEngine::add(int slab, std::shared_ptr<const Mapping> mapping) {
  UcxMemory told;
  wait_for([&] {
    const auto known = regions_.find(slab);
    if (known != regions_.end()) return void(told = known->second.told);
    told = enter(slab, mapping, mapping->bytes).told;
  });
  return told;
}

void* UcxEngine::make(int slab, size_t bytes) {
  void* data = nullptr;
  wait_for([&] { data = reinterpret_cast<void*>(enter(slab, nullptr, bytes).told.address); });
  return data;
}

/// On the engine's thread.
UcxEngine::Region& UcxEngine::enter(int slab, std::shared_ptr<const Mapping> mapping, size_t bytes) {
  Region region;
  ucp_mem_map_params_t params{};
  params.field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH | UCP_MEM_MAP_PARAM_FIELD_FLAGS;
  params.address = mapping ? mapping->data : nullptr;
  params.length = bytes;
  params.flags = mapping ? 0 : UCP_MEM_MAP_ALLOCATE;
  ucs_status_t status = library_.mem_map(context_, &params, &region.memory);
  if (status != UCS_OK) throw CodedError("ERR_LANE", format("ucx: registering %zu bytes: %s", bytes, words(status).c_str()));
  void* packed = nullptr;
  size_t length = 0;
  ucp_mem_attr_t attributes{};
  attributes.field_mask = UCP_MEM_ATTR_FIELD_ADDRESS;
  status = library_.mem_query(region.memory, &attributes);
  if (status == UCS_OK) status = library_.rkey_pack(context_, region.memory, &packed, &length);
  if (status != UCS_OK) {
    library_.mem_unmap(context_, region.memory);
    throw CodedError("ERR_LANE", format("ucx: packing a key: %s", words(status).c_str()));
  }
  region.told = {reinterpret_cast<uint64_t>(attributes.address), {static_cast<const char*>(packed), length}};
  region.mapping = std::move(mapping);
  library_.rkey_buffer_release(packed);
  return regions_[slab] = std::move(region);
}

void UcxEngine::forget(int slab) {
  post([this, slab] {
    const auto region = regions_.find(slab);
    if (region == regions_.end()) return;
    region->second.forgotten = true;
    if (region->second.reads == 0) drop(region);
  });
}

int UcxEngine::connect(const std::string& address) {
  const int number = next_endpoint_++;
  post([this, number, address] {
    Endpoint& made = endpoints_[number];
    ucp_ep_params_t params{};
    params.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE | UCP_EP_PARAM_FIELD_ERR_HANDLER;
    params.address = reinterpret_cast<const ucp_address_t*>(address.data());
    params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
    params.err_handler.arg = &made;
    params.err_handler.cb = [](void* arg, ucp_ep_h, ucs_status_t status) {
      static_cast<Endpoint*>(arg)->failure = std::string("the peer is gone: ") + ucx_library().status_string(status);
    };
    const ucs_status_t status = library_.ep_create(worker_, &params, &made.ep);
    if (status != UCS_OK) {
      made.ep = nullptr;
      made.failure = format("no way to the peer: %s", words(status).c_str());
    }
  });
  return number;
}

void UcxEngine::read(UcxRead read) {
  post([this, read = std::move(read)]() mutable { start(std::move(read)); });
}

void UcxEngine::close(int endpoint, const std::string& reason) {
  post([this, endpoint, reason] {
    if (const auto found = endpoints_.find(endpoint); found != endpoints_.end() && found->second.failure.empty()) found->second.failure = reason;
    end(endpoint);
  });
}

std::string UcxEngine::describe(int endpoint) {
  std::string text;
  wait_for([&] {
    const auto found = endpoints_.find(endpoint);
    if (found == endpoints_.end() || !found->second.ep) throw CodedError("ERR_LANE", "ucx: the way to the peer is not open");
    char* data = nullptr;
    size_t length = 0;
    std::FILE* into = open_memstream(&data, &length);
    library_.ep_print_info(found->second.ep, into);
    std::fclose(into);
    text.assign(data, length);
    std::free(data);
  });
  return text;
}

#endif
