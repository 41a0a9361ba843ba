// Collectives between GPUs by NCCL, which torch's edition for CUDA brings along. The library is opened when it is asked for, so that a program without GPUs needs none.
// What is declared here of `nccl.h` has been the same since NCCL 2.4.
#include "distributed.h"

#include <dlfcn.h>

#include <c10/core/DeviceGuard.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace {

struct UniqueId {
  char bytes[128];
};
using Comm = void*;
using Code = int;
constexpr int kSum = 0;

int type_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kChar:
      return 0;
    case at::kByte:
      return 1;
    case at::kInt:
      return 2;
    case at::kLong:
      return 4;
    case at::kHalf:
      return 6;
    case at::kFloat:
      return 7;
    case at::kDouble:
      return 8;
    case at::kBFloat16:
      return 9;
    default:
      TORCH_CHECK(false, "NCCL has no ", tensor.scalar_type());
  }
}

class Library {
 public:
  // Throws where there is none.
  static const Library& get() {
    static const Library library;
    return library;
  }

  Code (*unique_id)(UniqueId*);
  Code (*init)(Comm*, int, UniqueId, int);
  Code (*all_reduce)(const void*, void*, size_t, int, int, Comm, void*);
  Code (*broadcast)(const void*, void*, size_t, int, int, Comm, void*);
  Code (*async_error)(Comm, Code*);
  Code (*abort)(Comm);
  const char* (*text)(Code);

  void check(Code code, const char* what) const {
    TORCH_CHECK(code == 0, "NCCL: ", what, ": ", text(code));
  }

 private:
  Library() {
    // The one that torch itself has opened, where there is one.
    void* opened = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    TORCH_CHECK(opened != nullptr, "NCCL cannot be opened: ", dlerror());
    find(opened, "ncclGetUniqueId", unique_id);
    find(opened, "ncclCommInitRank", init);
    find(opened, "ncclAllReduce", all_reduce);
    find(opened, "ncclBroadcast", broadcast);
    find(opened, "ncclCommGetAsyncError", async_error);
    find(opened, "ncclCommAbort", abort);
    find(opened, "ncclGetErrorString", text);
  }

  template <typename Function>
  static void find(void* library, const char* name, Function& out) {
    out = reinterpret_cast<Function>(dlsym(library, name));
    TORCH_CHECK(out != nullptr, "NCCL lacks ", name);
  }
};

// Done once its event is: whoever waits has its stream wait, not the processor.
class Queued : public c10d::Work {
 public:
  Queued(c10::Event event, at::Tensor tensor, Comm comm)
      : event_(std::move(event)), tensor_(std::move(tensor)), comm_(comm) {}

  bool isCompleted() override {
    return event_.query();
  }

  bool wait(std::chrono::milliseconds) override {
    const auto& nccl = Library::get();
    Code code = 0;
    nccl.check(nccl.async_error(comm_, &code), "the state of the ranks");
    nccl.check(code, "a rank");
    event_.block(c10::impl::VirtualGuardImpl(tensor_.device().type()).getStream(tensor_.device()));
    return true;
  }

 private:
  c10::Event event_;
  at::Tensor tensor_;
  Comm comm_;
};

class Nccl : public c10d::Backend {
 public:
  Nccl(int rank, int size, const UniqueId& id, c10::Device device)
      : c10d::Backend(rank, size), device_(device), guard_(device.type()), stream_(guard_.getStreamFromGlobalPool(device, true)) {
    const c10::DeviceGuard on(device_);
    const auto& nccl = Library::get();
    nccl.check(nccl.init(&comm_, size, id, rank), "the ranks cannot be connected");
  }

  ~Nccl() override {
    Library::get().abort(comm_);
  }

  const std::string getBackendName() const override {
    return "nccl";
  }

  c10::intrusive_ptr<c10d::Work> allreduce(std::vector<at::Tensor>& tensors, const c10d::AllreduceOptions&) override {
    return queue(tensors, "a sum", [this](const at::Tensor& tensor, void* stream) {
      const auto data = tensor.data_ptr();
      return Library::get().all_reduce(data, data, tensor.numel(), type_of(tensor), kSum, comm_, stream);
    });
  }

  c10::intrusive_ptr<c10d::Work> broadcast(std::vector<at::Tensor>& tensors, const c10d::BroadcastOptions& options) override {
    return queue(tensors, "a broadcast", [&, this](const at::Tensor& tensor, void* stream) {
      const auto data = tensor.data_ptr();
      const auto root = static_cast<int>(options.rootRank);
      return Library::get().broadcast(data, data, tensor.numel(), type_of(tensor), root, comm_, stream);
    });
  }

 private:
  // On a stream of its own, behind what the current one has been given so far.
  template <typename Call>
  c10::intrusive_ptr<c10d::Work> queue(std::vector<at::Tensor>& tensors, const char* what, Call&& call) {
    const auto& tensor = tensors.at(0);
    TORCH_CHECK(tensors.size() == 1 && tensor.is_contiguous() && tensor.device() == device_, "NCCL: one dense tensor on ", device_);
    const c10::DeviceGuard on(device_);
    c10::Event before(device_.type());
    before.record(guard_.getStream(device_));
    before.block(stream_);
    // Its memory must not be given away while NCCL works on it.
    tensor.record_stream(stream_);
    Library::get().check(call(tensor, stream_.native_handle()), what);
    c10::Event after(device_.type());
    after.record(stream_);
    return c10::make_intrusive<Queued>(std::move(after), tensor, comm_);
  }

  c10::Device device_;
  c10::impl::VirtualGuardImpl guard_;
  c10::Stream stream_;
  Comm comm_ = nullptr;
};

} // namespace

// What all ranks of a group need to know, made by one of them: 128 bytes.
PN_EXPORT Error pn_nccl_id(uint8_t* out) {
  return pn_guard([&] {
    UniqueId id;
    const auto& nccl = Library::get();
    nccl.check(nccl.unique_id(&id), "no number for the group");
    std::memcpy(out, id.bytes, sizeof id.bytes);
  });
}

PN_EXPORT Error pn_group_nccl(const uint8_t* id, int rank, int size, int device, Group** out) {
  return pn_guard([&] {
    UniqueId copy;
    std::memcpy(copy.bytes, id, sizeof copy.bytes);
    *out = new Group{c10::make_intrusive<Nccl>(rank, size, copy, pn_device(device))};
  });
}
