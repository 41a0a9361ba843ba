// The device's allocator, with a capacity and a peak, and the allocator of pinned memory. Both give host memory.
#include "stand_in.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <mutex>

#include <c10/core/CachingDeviceAllocator.h>

namespace stand_in {

void poison(void* data, size_t bytes) {
  memset(data, 0xff, bytes);
}

namespace {

// As CUDA's allocator rounds, so that sums are like its own.
constexpr size_t kBlock = 512;

struct Block {
  void* data;
  size_t size;
};

Block* new_block(size_t bytes) {
  const auto size = (bytes + kBlock - 1) / kBlock * kBlock;
  void* data = nullptr;
  TORCH_CHECK(posix_memalign(&data, 64, size) == 0, "the stand-in: the host has no ", size, " bytes");
  poison(data, size);
  return new Block{data, size};
}

void free_block(Block* block) {
  // Whoever still reads it is found out.
  poison(block->data, block->size);
  free(block->data);
  delete block;
}

// More than any test takes, unless one says otherwise.
size_t initial_capacity() {
  const auto* given = std::getenv("STAND_IN_CAPACITY");
  return given == nullptr ? size_t{1} << 40 : std::strtoull(given, nullptr, 10);
}

class DeviceMemory final : public c10::DeviceAllocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0) {
      return {nullptr, kDevice};
    }
    std::lock_guard<std::mutex> guard(lock_);
    TORCH_CHECK_WITH(
        OutOfMemoryError, bytes <= capacity_ && allocated_ <= capacity_ - bytes, "MPS out of memory. Tried to allocate ",
        bytes, " bytes; the stand-in has ", capacity_, " bytes, of which ", allocated_, " are in use.");
    auto* block = new_block(bytes);
    allocated_ += block->size;
    peak_ = std::max(peak_, allocated_);
    return {block->data, block, &release, kDevice};
  }

  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

  bool initialized() override {
    return true;
  }

  void emptyCache(c10::MempoolId_t) override {}

  // Work that was put off holds what it uses (kernels.cpp).
  void recordStream(const c10::DataPtr&, c10::Stream) override {}

  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex) override {
    std::lock_guard<std::mutex> guard(lock_);
    c10::CachingDeviceAllocator::DeviceStats stats;
    const auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    for (auto* bytes : {&stats.allocated_bytes, &stats.reserved_bytes}) {
      (*bytes)[all].current = static_cast<int64_t>(allocated_);
      (*bytes)[all].peak = static_cast<int64_t>(peak_);
    }
    return stats;
  }

  void resetAccumulatedStats(c10::DeviceIndex) override {}

  void resetPeakStats(c10::DeviceIndex) override {
    std::lock_guard<std::mutex> guard(lock_);
    peak_ = allocated_;
  }

  std::pair<size_t, size_t> getMemoryInfo(c10::DeviceIndex) override {
    std::lock_guard<std::mutex> guard(lock_);
    return {capacity_ - std::min(capacity_, allocated_), capacity_};
  }

  void set_capacity(size_t bytes) {
    std::lock_guard<std::mutex> guard(lock_);
    capacity_ = bytes;
  }

 private:
  static void release(void* context);

  std::mutex lock_;
  size_t allocated_ = 0, peak_ = 0, capacity_ = initial_capacity();
};

DeviceMemory& memory() {
  // Never destroyed: tensors may outlive everything at the end of a process.
  static auto* memory = new DeviceMemory;
  return *memory;
}

void DeviceMemory::release(void* context) {
  auto* block = static_cast<Block*>(context);
  {
    std::lock_guard<std::mutex> guard(memory().lock_);
    memory().allocated_ -= block->size;
  }
  free_block(block);
}

class PinnedMemory final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    auto* block = new_block(std::max<size_t>(bytes, 1));
    std::lock_guard<std::mutex> guard(lock_);
    blocks_[block->data] = block->size;
    return {block->data, block, &release, c10::Device(c10::kCPU)};
  }

  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

  bool holds(const void* data) {
    std::lock_guard<std::mutex> guard(lock_);
    auto after = blocks_.upper_bound(data);
    if (after == blocks_.begin()) {
      return false;
    }
    const auto& [start, size] = *--after;
    return static_cast<const char*>(data) < static_cast<const char*>(start) + size;
  }

 private:
  static void release(void* context);

  std::mutex lock_;
  std::map<const void*, size_t> blocks_;
};

PinnedMemory& pinned() {
  static auto* pinned = new PinnedMemory;
  return *pinned;
}

void PinnedMemory::release(void* context) {
  auto* block = static_cast<Block*>(context);
  {
    std::lock_guard<std::mutex> guard(pinned().lock_);
    pinned().blocks_.erase(block->data);
  }
  free_block(block);
}

}  // namespace

c10::Allocator* device_allocator() {
  return &memory();
}

c10::Allocator* pinned_allocator() {
  return &pinned();
}

bool is_pinned(const void* data) {
  return pinned().holds(data);
}

static const c10::AllocatorRegisterer<c10::kMPS> registered(&memory());

}  // namespace stand_in

STAND_IN_EXPORT void stand_in_set_capacity(uint64_t bytes) {
  stand_in::memory().set_capacity(bytes);
}
