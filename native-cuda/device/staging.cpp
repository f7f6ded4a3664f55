#include "staging.h"

#include "pool.h"

namespace {
constexpr size_t kWorthKeeping = size_t{64} << 10, kMostKept = size_t{64} << 20;
}

Staging::~Staging() {
  for (const auto& [reserved, buffers] : kept_)
    for (unsigned char* data : buffers) delete[] data;
}

Staging::Buffer Staging::take(size_t bytes) {
  if (bytes < kWorthKeeping) return Buffer(new unsigned char[bytes]);
  const size_t reserved = Pool::size_class(bytes);
  {
    std::lock_guard lock(mutex_);
    if (auto found = kept_.find(reserved); found != kept_.end() && !found->second.empty()) {
      unsigned char* data = found->second.back();
      found->second.pop_back();
      bytes_kept_ -= reserved;
      return Buffer(data, {this, reserved});
    }
  }
  return Buffer(new unsigned char[reserved], {this, reserved});
}

void Staging::Return::operator()(unsigned char* data) const {
  if (home) home->give(data, reserved);
  else delete[] data;
}

void Staging::give(unsigned char* data, size_t reserved) {
  {
    std::lock_guard lock(mutex_);
    if (bytes_kept_ + reserved <= kMostKept) {
      kept_[reserved].push_back(data);
      bytes_kept_ += reserved;
      return;
    }
  }
  delete[] data;
}
