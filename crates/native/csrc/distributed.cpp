// Processes that work together: a store of keys for all of them, and collectives. Gradients: see reducer.cpp.
#include "distributed.h"

#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#define USE_C10D_GLOO
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

// Beside the headers that use it.
C10_DECLARE_int(caffe2_log_level);

using Millis = std::chrono::milliseconds;

// A question that waits is asked anew after two seconds, so c10d's word that it timed out is no news; what it ends by is told as an error.
static void hush() {
  constexpr int errors = 2;
  if (std::getenv("TORCH_CPP_LOG_LEVEL") == nullptr) {
    FLAGS_caffe2_log_level = std::max(FLAGS_caffe2_log_level, errors);
  }
}

// ---- the store

struct Store {
  c10::intrusive_ptr<c10d::Store> store;
};

PN_EXPORT Error
pn_store_tcp(const char* host, uint16_t port, bool server, int64_t timeout_ms, Store** out, uint16_t* bound) {
  return pn_guard([&] {
    hush();
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = server;
    options.waitWorkers = false;
    options.timeout = Millis(timeout_ms);
    auto store = c10::make_intrusive<c10d::TCPStore>(host, options);
    *bound = store->getPort();
    *out = new Store{std::move(store)};
  });
}

PN_EXPORT Error pn_store_prefixed(const Store* store, const char* prefix, Store** out) {
  return pn_guard([&] { *out = new Store{c10::make_intrusive<c10d::PrefixStore>(prefix, store->store)}; });
}

PN_EXPORT void pn_store_delete(Store* store) {
  delete store;
}

PN_EXPORT Error pn_store_set(const Store* store, const char* key, const uint8_t* bytes, size_t len) {
  return pn_guard([&] { store->store->set(key, std::vector<uint8_t>(bytes, bytes + len)); });
}

// Waits for the key; its bytes are handed to `take`.
PN_EXPORT Error pn_store_get(
    const Store* store,
    const char* key,
    int64_t timeout_ms,
    void* context,
    void (*take)(void*, const uint8_t*, size_t)) {
  return pn_guard([&] {
    store->store->wait({key}, Millis(timeout_ms));
    const auto value = store->store->get(key);
    take(context, value.data(), value.size());
  });
}

PN_EXPORT Error pn_store_add(const Store* store, const char* key, int64_t amount, int64_t* out) {
  return pn_guard([&] { *out = store->store->add(key, amount); });
}

// ---- collectives

PN_EXPORT Error pn_group_gloo(
    const Store* store,
    int rank,
    int size,
    const char* interface,
    const char* host,
    int64_t timeout_ms,
    Group** out) {
  return pn_guard([&] {
    auto options = c10d::ProcessGroupGloo::Options::create(Millis(timeout_ms));
    options->devices.push_back(
        interface != nullptr  ? c10d::ProcessGroupGloo::createDeviceForInterface(interface)
            : host != nullptr ? c10d::ProcessGroupGloo::createDeviceForHostname(host)
                              : c10d::ProcessGroupGloo::createDefaultDevice());
    auto backend = c10::make_intrusive<c10d::ProcessGroupGloo>(store->store, rank, size, options);
    *out = new Group{std::move(backend)};
  });
}

PN_EXPORT void pn_group_delete(Group* group) {
  delete group;
}

// The sum.
PN_EXPORT Error pn_group_all_reduce(const Group* group, Handle tensor) {
  return pn_guard([&] {
    std::vector<at::Tensor> tensors{*tensor};
    group->backend->allreduce(tensors)->wait();
  });
}

PN_EXPORT Error pn_group_broadcast(const Group* group, Handle tensor, int root) {
  return pn_guard([&] {
    std::vector<at::Tensor> tensors{*tensor};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    group->backend->broadcast(tensors, options)->wait();
  });
}

static at::Tensor sum_of_all(const at::Tensor& own, const c10::intrusive_ptr<c10d::Backend>& backend) {
  const auto here = backend->getBackendName() == "gloo" ? own.detach().to(at::kCPU) : own.detach();
  auto sum = here.clone(at::MemoryFormat::Contiguous);
  std::vector<at::Tensor> tensors{sum};
  try {
    backend->allreduce(tensors)->wait();
  } catch (const std::exception& error) {
    // Between a network's layers nobody else knows what that means.
    TORCH_CHECK(false, "another rank is gone, or has not come this far in time: ", error.what());
  }
  return sum.to(own.device());
}

// What one rank adds is in the result of each, so what all of them ask of it comes back as a sum, too.
struct SharedSum : torch::autograd::Function<SharedSum> {
  static at::Tensor forward(
      torch::autograd::AutogradContext* ctx,
      const at::Tensor& own,
      const c10::intrusive_ptr<c10d::Backend>& backend) {
    ctx->saved_data["backend"] = at::IValue::make_capsule(backend);
    return sum_of_all(own, backend);
  }

  static torch::autograd::variable_list
  backward(torch::autograd::AutogradContext* ctx, torch::autograd::variable_list gradients) {
    const auto backend = c10::static_intrusive_pointer_cast<c10d::Backend>(ctx->saved_data["backend"].toCapsule());
    return {sum_of_all(gradients[0], backend), at::Tensor()};
  }
};

// The sum of all ranks' tensors, through which gradients flow.
PN_EXPORT Error pn_group_shared_sum(const Group* group, Handle own, Handle* out) {
  return pn_guard([&] { *out = pn_new(SharedSum::apply(*own, group->backend)); });
}
