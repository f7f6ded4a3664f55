// Stores that go past the caches. An ordinary store first reads its line from memory; for outputs that no cache could keep
// until they are read, that reading is a third of the traffic.
// SM-1: the bytes written are those of memcpy; other threads see them when stream_bytes returns.
#pragma once
#include <cstddef>

/// Size of the last-level cache; 32 MiB where the system does not say.
size_t last_level_cache();
/// Copies `bytes` that lie in a near cache to memory that is not wanted there.
void stream_bytes(const void* from, void* to, size_t bytes);
