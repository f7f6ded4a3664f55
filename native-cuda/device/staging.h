// Host memory of commands: the payload of a launch, the bytes of an upload on their way into a tensor.
// SG-1: a buffer belongs to one command, and comes back when that is destroyed, on whichever thread.
// SG-2: buffers of 64 KiB and more are kept, 64 MiB of them at most: fresh ones cost a page fault per 4 KiB, ten times the copy itself.
#pragma once
#include <cstddef>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

class Staging {
 public:
  Staging() = default;
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  struct Return {
    Staging* home = nullptr;  // none: freed
    size_t reserved = 0;
    void operator()(unsigned char* data) const;
  };
  using Buffer = std::unique_ptr<unsigned char[], Return>;

  Buffer take(size_t bytes);

 private:
  void give(unsigned char* data, size_t reserved);

  std::mutex mutex_;
  std::unordered_map<size_t, std::vector<unsigned char*>> kept_;  // by size class
  size_t bytes_kept_ = 0;
};
