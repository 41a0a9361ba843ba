// The device as libtorch asks for it: one device, its streams and events, its hooks; and who is told of waits.
#include "stand_in.h"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <deque>
#include <map>
#include <mutex>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/detail/MPSHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

namespace stand_in {

namespace {

using Observer = void (*)(int kind, const char* op);
std::atomic<Observer> observer{nullptr};

struct Queue {
  std::deque<std::function<void()>> work;
  uint64_t queued = 0, done = 0;
};

// Recursive: work may be to wait for another stream.
std::recursive_mutex lock;
std::map<int64_t, Queue>& queues() {
  static auto* queues = new std::map<int64_t, Queue>;
  return *queues;
}

// As many streams as libtorch's pool of CUDA's has.
constexpr int64_t kPool = 32;
thread_local int64_t current = 0;

void finish_until(int64_t stream, uint64_t position) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  auto& queue = queues()[stream];
  while (!queue.work.empty() && queue.done < position) {
    const auto work = std::move(queue.work.front());
    queue.work.pop_front();
    ++queue.done;
    work();
  }
}

void finish_all() {
  std::lock_guard<std::recursive_mutex> guard(lock);
  for (auto& [stream, _] : queues()) {
    finish(stream);
  }
}

struct Event {
  int64_t stream;
  uint64_t position;
  std::chrono::steady_clock::time_point time;

  bool is_done() const {
    std::lock_guard<std::recursive_mutex> guard(lock);
    return queues()[stream].done >= position;
  }
};

c10::Stream stream_of(int64_t id) {
  return c10::Stream(c10::Stream::UNSAFE, kDevice, id);
}

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override {
    return c10::kMPS;
  }
  c10::Device exchangeDevice(c10::Device) const override {
    return kDevice;
  }
  c10::Device getDevice() const override {
    return kDevice;
  }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::DeviceIndex deviceCount() const noexcept override {
    return 1;
  }

  c10::Stream getStream(c10::Device) const override {
    return stream_of(current);
  }
  c10::Stream getDefaultStream(c10::Device) const override {
    return stream_of(0);
  }
  c10::Stream getStreamFromGlobalPool(c10::Device, bool) const override {
    static std::atomic<int64_t> next{0};
    return stream_of(1 + next++ % kPool);
  }
  // Not null, as one of CUDA's is not.
  void* getStreamNativeHandle(const c10::Stream stream) const override {
    return reinterpret_cast<void*>(stream.id() + 1);
  }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    return stream_of(std::exchange(current, stream.id()));
  }
  bool queryStream(const c10::Stream& stream) const override {
    std::lock_guard<std::recursive_mutex> guard(lock);
    const bool was_done = queues()[stream.id()].work.empty();
    // Time passes between two questions.
    finish(stream.id());
    return was_done;
  }
  void synchronizeStream(const c10::Stream& stream) const override {
    tell(Kind::wait, "synchronize a stream");
    finish(stream.id());
  }
  void synchronizeDevice(c10::DeviceIndex) const override {
    tell(Kind::wait, "synchronize the device");
    finish_all();
  }

  void record(void** event, const c10::Stream& stream, c10::DeviceIndex, c10::EventFlag) const override {
    if (*event == nullptr) {
      *event = new Event;
    }
    std::lock_guard<std::recursive_mutex> guard(lock);
    *static_cast<Event*>(*event) = {stream.id(), queues()[stream.id()].queued, std::chrono::steady_clock::now()};
  }
  void block(void* event, const c10::Stream& stream) const override {
    if (event == nullptr) {
      return;
    }
    const auto at = *static_cast<Event*>(event);
    if (!at.is_done() && at.stream != stream.id()) {
      put_off_on(stream.id(), [at] { finish_until(at.stream, at.position); });
    }
  }
  bool queryEvent(void* event) const override {
    if (event == nullptr) {
      return true;
    }
    const auto at = *static_cast<Event*>(event);
    const bool was_done = at.is_done();
    finish_until(at.stream, at.position);
    return was_done;
  }
  void synchronizeEvent(void* event) const override {
    if (event != nullptr) {
      tell(Kind::wait, "synchronize an event");
      const auto at = *static_cast<Event*>(event);
      finish_until(at.stream, at.position);
    }
  }
  void destroyEvent(void* event, c10::DeviceIndex) const noexcept override {
    delete static_cast<Event*>(event);
  }
  double elapsedTime(void* from, void* to, c10::DeviceIndex) const override {
    const auto span = static_cast<Event*>(to)->time - static_cast<Event*>(from)->time;
    return std::chrono::duration<double, std::milli>(span).count();
  }
};

C10_REGISTER_GUARD_IMPL(MPS, Guard)

// Named as libtorch looks it up.
struct MPSHooks final : at::MPSHooksInterface {
  explicit MPSHooks(at::MPSHooksArgs) {}
  void init() const override {}
  bool hasMPS() const override {
    return true;
  }
  bool isBuilt() const override {
    return true;
  }
  bool isAvailable() const override {
    return true;
  }
  bool hasPrimaryContext(c10::DeviceIndex) const override {
    return true;
  }
  c10::DeviceIndex deviceCount() const override {
    return 1;
  }
  c10::DeviceIndex getCurrentDevice() const override {
    return 0;
  }
  void setCurrentDevice(c10::DeviceIndex) const override {}
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex) const override {
    return 0;
  }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex) const override {
    return 0;
  }
  // The CPU's own, so that what is drawn is what a run on the CPU draws.
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override {
    return at::detail::getDefaultCPUGenerator();
  }
  at::Generator getNewGenerator(c10::DeviceIndex) const override {
    return at::detail::createCPUGenerator();
  }
  c10::Allocator* getMPSDeviceAllocator() const override {
    return device_allocator();
  }
  c10::Device getDeviceFromPtr(void*) const override {
    return kDevice;
  }
  bool isPinnedPtr(const void* data) const override {
    return is_pinned(data);
  }
  c10::Allocator* getPinnedMemoryAllocator() const override {
    return pinned_allocator();
  }
  void deviceSynchronize() const override {
    tell(Kind::wait, "synchronize the device");
    finish_all();
  }
};

// libtorch refuses two accelerators.
__attribute__((constructor)) void hide_gpus() {
  setenv("CUDA_VISIBLE_DEVICES", "", 1);
}

using at::MPSHooksRegistry;
using at::RegistererMPSHooksRegistry;
REGISTER_MPS_HOOKS(MPSHooks);

}  // namespace

void tell(Kind kind, const char* op) {
  if (const auto listener = observer.load()) {
    listener(static_cast<int>(kind), op);
  }
}

int64_t current_stream() {
  return current;
}

void put_off_on(int64_t stream, std::function<void()> work) {
  std::lock_guard<std::recursive_mutex> guard(lock);
  auto& queue = queues()[stream];
  queue.work.push_back(std::move(work));
  ++queue.queued;
}

void put_off(std::function<void()> work) {
  put_off_on(current, std::move(work));
}

void finish(int64_t stream) {
  finish_until(stream, UINT64_MAX);
}

}  // namespace stand_in

STAND_IN_EXPORT void stand_in_observe(void (*observer)(int kind, const char* op)) {
  stand_in::observer = observer;
}
