// The state of the runtime: autocast, generators, streams, events, memory, numeric switches, copies.
#include "shim.h"

#include <cstdlib>
#include <mutex>

#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/headeronly/version.h>

PN_EXPORT void pn_free(char* text) {
  free(text);
}

PN_EXPORT const char* pn_torch_version() {
  return TORCH_VERSION;
}

PN_EXPORT Error pn_cuda_config(char** out) {
  return pn_guard([&] { *out = at::hasCUDA() ? strdup(at::detail::getCUDAHooks().showConfig().c_str()) : nullptr; });
}

// ---- autocast

PN_EXPORT Error pn_autocast_enter(int device, bool enabled, int kind, bool* was_enabled, int* was_kind) {
  return pn_guard([&] {
    const auto type = pn_device(device).type();
    *was_enabled = at::autocast::is_autocast_enabled(type);
    *was_kind = static_cast<int>(at::autocast::get_autocast_dtype(type));
    at::autocast::set_autocast_enabled(type, enabled);
    if (enabled) {
      at::autocast::set_autocast_dtype(type, static_cast<at::ScalarType>(kind));
    }
    at::autocast::increment_nesting();
  });
}

PN_EXPORT Error pn_autocast_exit(int device, bool was_enabled, int was_kind) {
  return pn_guard([&] {
    const auto type = pn_device(device).type();
    if (at::autocast::decrement_nesting() == 0) {
      at::autocast::clear_cache();
    }
    at::autocast::set_autocast_enabled(type, was_enabled);
    at::autocast::set_autocast_dtype(type, static_cast<at::ScalarType>(was_kind));
  });
}

// ---- random generators

PN_EXPORT Error pn_generator_state(int device, Handle* out) {
  return pn_guard([&] {
    auto generator = at::globalContext().defaultGenerator(pn_device(device));
    std::lock_guard<std::mutex> lock(generator.mutex());
    *out = pn_new(generator.get_state());
  });
}

PN_EXPORT Error pn_generator_set_state(int device, Handle state) {
  return pn_guard([&] {
    auto generator = at::globalContext().defaultGenerator(pn_device(device));
    std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_state(*state);
  });
}

PN_EXPORT Error pn_generator_seed(int device, uint64_t seed) {
  return pn_guard([&] {
    auto generator = at::globalContext().defaultGenerator(pn_device(device));
    std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_current_seed(seed);
  });
}

// ---- streams and events

struct StreamId {
  int64_t id;
  int device;
};

static c10::Stream unpack(const StreamId& s) {
  return c10::Stream(c10::Stream::UNSAFE, pn_device(s.device), s.id);
}

static StreamId pack(const c10::Stream& s) {
  return {s.id(), pn_device_number(s.device())};
}

PN_EXPORT Error pn_synchronize(int device) {
  return pn_guard([&] {
    const auto d = pn_device(device);
    if (!d.is_cpu()) {
      c10::impl::VirtualGuardImpl(d.type()).synchronizeDevice(d.index());
    }
  });
}

PN_EXPORT Error pn_stream_current(int device, StreamId* out) {
  return pn_guard([&] {
    const auto d = pn_device(device);
    *out = pack(c10::impl::VirtualGuardImpl(d.type()).getStream(d));
  });
}

PN_EXPORT Error pn_stream_from_pool(int device, bool high_priority, StreamId* out) {
  return pn_guard([&] {
    const auto d = pn_device(device);
    *out = pack(c10::impl::VirtualGuardImpl(d.type()).getStreamFromGlobalPool(d, high_priority));
  });
}

PN_EXPORT Error pn_stream_exchange(const StreamId* stream, StreamId* previous) {
  return pn_guard([&] {
    const auto s = unpack(*stream);
    *previous = pack(c10::impl::VirtualGuardImpl(s.device_type()).exchangeStream(s));
  });
}

PN_EXPORT Error pn_stream_synchronize(const StreamId* stream) {
  return pn_guard([&] { unpack(*stream).synchronize(); });
}

PN_EXPORT Error pn_record_stream(Handle tensor, const StreamId* stream) {
  return pn_guard([&] { tensor->record_stream(unpack(*stream)); });
}

PN_EXPORT Error pn_event_new(int device, c10::Event** out) {
  // BACKEND_DEFAULT is the flag that keeps times.
  return pn_guard([&] { *out = new c10::Event(pn_device(device).type(), c10::EventFlag::BACKEND_DEFAULT); });
}

PN_EXPORT void pn_event_delete(c10::Event* event) {
  delete event;
}

PN_EXPORT Error pn_event_record(c10::Event* event, const StreamId* stream) {
  return pn_guard([&] { event->record(unpack(*stream)); });
}

PN_EXPORT Error pn_event_block(const c10::Event* event, const StreamId* stream) {
  return pn_guard([&] { event->block(unpack(*stream)); });
}

PN_EXPORT Error pn_event_query(const c10::Event* event, bool* out) {
  return pn_guard([&] { *out = event->query(); });
}

PN_EXPORT Error pn_event_synchronize(const c10::Event* event) {
  return pn_guard([&] { event->synchronize(); });
}

PN_EXPORT Error pn_event_elapsed(const c10::Event* from, const c10::Event* to, double* out) {
  return pn_guard([&] { *out = from->elapsedTime(*to); });
}

// ---- memory of a device

struct MemoryStats {
  int64_t allocated, peak_allocated, reserved, peak_reserved;
};

PN_EXPORT Error pn_memory_stats(int device, MemoryStats* out) {
  return pn_guard([&] {
    const auto d = pn_device(device);
    auto* allocator = at::getDeviceAllocator(d.type());
    *out = {};
    // Before the first allocation there is nothing to ask, and asking is an error.
    if (!allocator->initialized()) {
      return;
    }
    const auto stats = allocator->getDeviceStats(d.index());
    const auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    *out = {
        stats.allocated_bytes[all].current, stats.allocated_bytes[all].peak, stats.reserved_bytes[all].current,
        stats.reserved_bytes[all].peak};
  });
}

PN_EXPORT Error pn_memory_info(int device, uint64_t* free_bytes, uint64_t* total_bytes) {
  return pn_guard([&] {
    const auto d = pn_device(device);
    at::globalContext().lazyInitDevice(d.type());
    const auto [free, total] = at::getDeviceAllocator(d.type())->getMemoryInfo(d.index());
    *free_bytes = free;
    *total_bytes = total;
  });
}

PN_EXPORT Error pn_memory_forget(int device) {
  return pn_guard([&] {
    const auto d = pn_device(device);
    auto* allocator = at::getDeviceAllocator(d.type());
    if (allocator->initialized()) {
      allocator->emptyCache();
      allocator->resetPeakStats(d.index());
    }
  });
}

// ---- numeric switches

PN_EXPORT bool pn_grad_mode() {
  return at::GradMode::is_enabled();
}

PN_EXPORT void pn_set_grad_mode(bool on) {
  at::GradMode::set_enabled(on);
}

PN_EXPORT Error pn_set_benchmark(bool on) {
  return pn_guard([&] { at::globalContext().setBenchmarkCuDNN(on); });
}

PN_EXPORT bool pn_deterministic() {
  return at::globalContext().deterministicAlgorithms();
}

PN_EXPORT Error pn_set_deterministic(bool on, bool warn_only) {
  return pn_guard([&] {
    auto& context = at::globalContext();
    context.setDeterministicAlgorithms(on, warn_only);
    context.setDeterministicCuDNN(on);
    context.setDeterministicMkldnn(on);
    if (on) {
      context.setBenchmarkCuDNN(false);
      // cuBLAS reads this when its first handle is made; a value that the user set stays.
      setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", 0);
    }
  });
}

// ---- copies

PN_EXPORT Error pn_pin(Handle tensor, Handle* out) {
  return pn_guard([&] { *out = pn_new(tensor->pin_memory()); });
}

PN_EXPORT Error pn_to_device(Handle tensor, int device, bool pin, bool non_blocking, Handle* out) {
  return pn_guard([&] {
    const auto to = pn_device(device);
    auto source = *tensor;
    if (pin && source.is_cpu() && !to.is_cpu() && !source.is_pinned()) {
      source = source.pin_memory();
    }
    *out = pn_new(source.to(to, source.scalar_type(), non_blocking));
  });
}
