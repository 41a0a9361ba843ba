// Kernels for NVIDIA GPUs (kernels.cu), compiled by NVRTC when one is first asked for. NVRTC and the driver come with libtorch's CUDA
// build; neither is known where this is compiled, so their few functions are declared here.
#include "shim.h"

#include <dlfcn.h>

#include <map>
#include <mutex>
#include <stdexcept>

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace {

// Names and types of nvrtc.h and cuda.h; a status of 0 is success in both.
struct Functions {
  int (*nvrtcCreateProgram)(void**, const char*, const char*, int, const char* const*, const char* const*);
  int (*nvrtcCompileProgram)(void*, int, const char* const*);
  int (*nvrtcDestroyProgram)(void**);
  int (*nvrtcGetProgramLogSize)(void*, size_t*);
  int (*nvrtcGetProgramLog)(void*, char*);
  int (*nvrtcGetCUBINSize)(void*, size_t*);
  int (*nvrtcGetCUBIN)(void*, char*);
  int (*cuDeviceGetAttribute)(int*, int, int);
  int (*cuModuleLoadData)(void**, const void*);
  int (*cuModuleGetFunction)(void**, void*, const char*);
  int (*cuLaunchKernel)(
      void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**, void**);
};

void must(int status, const char* what) {
  if (status != 0) {
    throw std::runtime_error(std::string(what) + " failed with status " + std::to_string(status));
  }
}

// From `library`, which libtorch opens for the same purpose and which needs NVRTC and the driver.
Functions open(const char* library) {
  void* handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    throw std::runtime_error(dlerror());
  }
  Functions f{};
  const auto find = [&](auto& function, const char* name) {
    void* symbol = dlsym(handle, name);
    if (symbol == nullptr) {
      throw std::runtime_error(std::string(name) + " is not in " + library);
    }
    function = reinterpret_cast<std::decay_t<decltype(function)>>(symbol);
  };
#define FIND(name) find(f.name, #name)
  FIND(nvrtcCreateProgram);
  FIND(nvrtcCompileProgram);
  FIND(nvrtcDestroyProgram);
  FIND(nvrtcGetProgramLogSize);
  FIND(nvrtcGetProgramLog);
  FIND(nvrtcGetCUBINSize);
  FIND(nvrtcGetCUBIN);
  FIND(cuDeviceGetAttribute);
  FIND(cuModuleLoadData);
  FIND(cuModuleGetFunction);
  FIND(cuLaunchKernel);
#undef FIND
  return f;
}

std::string compile(const Functions& f, const char* source, const std::string& architecture) {
  void* program = nullptr;
  must(f.nvrtcCreateProgram(&program, source, "kernels.cu", 0, nullptr, nullptr), "nvrtcCreateProgram");
  const std::string arch = "--gpu-architecture=" + architecture;
  const char* options[] = {arch.c_str(), "--std=c++17", "--fmad=false"};
  if (f.nvrtcCompileProgram(program, 3, options) != 0) {
    size_t size = 0;
    f.nvrtcGetProgramLogSize(program, &size);
    std::string log(size, '\0');
    f.nvrtcGetProgramLog(program, log.data());
    f.nvrtcDestroyProgram(&program);
    throw std::runtime_error("kernels.cu does not compile for " + architecture + ": " + log.c_str());
  }
  size_t size = 0;
  must(f.nvrtcGetCUBINSize(program, &size), "nvrtcGetCUBINSize");
  std::string binary(size, '\0');
  must(f.nvrtcGetCUBIN(program, binary.data()), "nvrtcGetCUBIN");
  f.nvrtcDestroyProgram(&program);
  return binary;
}

// The kernels of one device.
struct Kernels {
  Functions functions;
  void *suppress, *best_truths, *match;
};

std::mutex kernels_mutex;
std::map<int, Kernels> loaded_kernels;

void launch(const Kernels& m, void* kernel, c10::Device device, int64_t blocks, unsigned threads, void** arguments) {
  TORCH_CHECK(blocks < (int64_t(1) << 31), "too many boxes for a kernel: ", blocks, " blocks");
  void* stream = c10::impl::VirtualGuardImpl(device.type()).getStream(device).native_handle();
  must(
      m.functions.cuLaunchKernel(
          kernel, static_cast<unsigned>(blocks), 1, 1, threads, 1, 1, 0, stream, arguments, nullptr),
      "cuLaunchKernel");
}

const Kernels& kernels_of(c10::Device device) {
  std::lock_guard<std::mutex> lock(kernels_mutex);
  const auto found = loaded_kernels.find(device.index());
  TORCH_CHECK(found != loaded_kernels.end(), "the kernels of ", device, " are not loaded");
  return found->second;
}

// Boxes as the kernels read them: a vector of four floats each.
at::Tensor vectors(const at::Tensor& boxes, const at::Tensor& like) {
  TORCH_CHECK(
      boxes.dim() == 2 && boxes.size(1) == 4 && boxes.scalar_type() == at::kFloat && boxes.is_cuda() &&
          boxes.device() == like.device(),
      "boxes must be float32 [N, 4] on one GPU");
  const auto whole = boxes.contiguous();
  return reinterpret_cast<uintptr_t>(whole.data_ptr()) % 16 == 0 ? whole : whole.clone();
}

}  // namespace

PN_EXPORT Error pn_kernels_load(int device, const char* library, const char* source) {
  return pn_guard([&] {
    const auto d = pn_device(device);
    std::lock_guard<std::mutex> lock(kernels_mutex);
    if (loaded_kernels.count(d.index())) {
      return;
    }
    Kernels m{};
    m.functions = open(library);
    int major = 0, minor = 0;
    must(m.functions.cuDeviceGetAttribute(&major, 75, d.index()), "cuDeviceGetAttribute");
    must(m.functions.cuDeviceGetAttribute(&minor, 76, d.index()), "cuDeviceGetAttribute");
    const auto binary =
        compile(m.functions, source, "sm_" + std::to_string(major) + std::to_string(minor));
    // The device's context is the current one once torch has worked on it.
    c10::DeviceGuard guard(d);
    c10::impl::VirtualGuardImpl(d.type()).synchronizeDevice(d.index());
    void* loaded = nullptr;
    must(m.functions.cuModuleLoadData(&loaded, binary.data()), "cuModuleLoadData");
    must(m.functions.cuModuleGetFunction(&m.suppress, loaded, "suppress"), "cuModuleGetFunction");
    must(m.functions.cuModuleGetFunction(&m.best_truths, loaded, "best_truths"), "cuModuleGetFunction");
    must(m.functions.cuModuleGetFunction(&m.match, loaded, "match"), "cuModuleGetFunction");
    loaded_kernels.emplace(d.index(), m);
  });
}

PN_EXPORT Error pn_kernels_suppress(Handle boxes, Handle keys, float threshold, Handle* out) {
  return pn_guard([&] {
    const auto b = vectors(*boxes, *keys), k = keys->contiguous();
    int64_t count = b.size(0);
    TORCH_CHECK(k.scalar_type() == at::kLong && k.dim() == 1 && k.size(0) == count, "keys must be int64 [N]");
    const auto keep = at::empty({count}, b.options().dtype(at::kBool));
    if (count > 0) {
      c10::DeviceGuard guard(b.device());
      const Kernels& m = kernels_of(b.device());
      void *pb = b.data_ptr(), *pk = k.data_ptr(), *pout = keep.data_ptr();
      void* arguments[] = {&pb, &pk, &count, &threshold, &pout};
      launch(m, m.suppress, b.device(), count, 512, arguments);
    }
    *out = pn_new(keep);
  });
}

PN_EXPORT Error pn_kernels_match(Handle truth, Handle boxes, float low, float high, bool low_quality, Handle* out) {
  return pn_guard([&] {
    const auto t = vectors(*truth, *boxes), b = vectors(*boxes, *truth);
    int64_t truths = t.size(0), count = b.size(0);
    TORCH_CHECK(truths > 0, "there is no truth to match");
    const auto matches = at::empty({count}, b.options().dtype(at::kLong));
    if (count > 0) {
      c10::DeviceGuard guard(b.device());
      const Kernels& m = kernels_of(b.device());
      const auto best = at::empty({count}, b.options());
      const auto of = at::empty_like(matches);
      const auto most = at::zeros({truths}, b.options().dtype(at::kInt));
      void *pt = t.data_ptr(), *pb = b.data_ptr(), *pbest = best.data_ptr(), *pof = of.data_ptr();
      void *pmost = low_quality ? most.data_ptr() : nullptr, *pout = matches.data_ptr();
      const int64_t blocks = (count + 255) / 256;
      void* first[] = {&pt, &truths, &pb, &count, &pbest, &pof, &pmost};
      launch(m, m.best_truths, b.device(), blocks, 256, first);
      void* second[] = {&pt, &truths, &pb, &count, &pbest, &pof, &pmost, &low, &high, &pout};
      launch(m, m.match, b.device(), blocks, 256, second);
    }
    *out = pn_new(matches);
  });
}
