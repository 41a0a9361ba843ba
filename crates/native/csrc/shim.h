// What every file of the shim shares: handles, lists of handles, and errors as strings.
//
// Contract with the Rust side (src/ffi.rs): a handle is an `at::Tensor*`, the very pointer that tch holds. Every function
// returns null, or an error text allocated with malloc that the caller hands back to `pn_free`. No exception crosses.
#pragma once

#include <cstring>
#include <exception>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>
#include <c10/util/Exception.h>

using Handle = at::Tensor*;
using Error = char*;

#define PN_EXPORT extern "C" __attribute__((visibility("default")))

// Runs `body`, turning any exception into the error text the Rust side expects.
template <typename Body>
Error pn_guard(Body&& body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const c10::Error& e) {
    return strdup(e.what_without_backtrace());
  } catch (const std::exception& e) {
    return strdup(e.what());
  } catch (...) {
    return strdup("an exception of an unknown type");
  }
}

inline std::vector<at::Tensor> pn_list(const Handle* handles, size_t n) {
  std::vector<at::Tensor> list;
  list.reserve(n);
  for (size_t i = 0; i < n; ++i) {
    list.push_back(*handles[i]);
  }
  return list;
}

inline std::optional<at::Tensor> pn_optional(Handle handle) {
  if (handle == nullptr) {
    return std::nullopt;
  }
  return *handle;
}

inline Handle pn_new(at::Tensor tensor) {
  return new at::Tensor(std::move(tensor));
}

// tch's numbering of devices: -1 is the CPU, -2 MPS, n >= 0 is CUDA device n.
inline c10::Device pn_device(int device) {
  switch (device) {
    case -1:
      return c10::Device(c10::kCPU);
    case -2:
      return c10::Device(c10::kMPS, 0);
    default:
      return c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(device));
  }
}

inline int pn_device_number(c10::Device device) {
  return device.is_cpu() ? -1 : device.is_mps() ? -2 : static_cast<int>(device.index());
}

// Calls a registered operator of one result (ops.cpp); arguments that its schema lists beyond `args` take their defaults.
at::Tensor pn_call(const char* name, std::initializer_list<c10::IValue> args);
