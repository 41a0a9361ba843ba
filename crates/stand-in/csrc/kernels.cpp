// The device's kernels: memory, views and copies here; every other operator by the CPU's kernel on the same memory.
#include "stand_in.h"

#include <cstring>
#include <memory>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include <ATen/EmptyTensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/_local_scalar_dense.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/resize_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/CPUAllocator.h>
#include <torch/library.h>

namespace stand_in {

namespace {

// Bytes from the first element to the last, whatever the strides.
size_t span(const at::Tensor& t) {
  return at::detail::computeStorageNbytes(t.sizes(), t.strides(), t.itemsize());
}

// Tensors of the device as the CPU's kernels see them during one call: on the same memory.
class Borrowed {
 public:
  at::Tensor to_cpu(const at::Tensor& t) {
    if (!t.defined() || !t.is_mps()) {
      return t;
    }
    auto cpu = at::detail::make_tensor<c10::TensorImpl>(
        storage_of(t.storage()), c10::DispatchKeySet(c10::DispatchKey::CPU), t.dtype());
    auto* impl = cpu.unsafeGetTensorImpl();
    impl->set_sizes_and_strides(t.sizes(), t.strides(), t.storage_offset());
    if (t.unsafeGetTensorImpl()->is_wrapped_number()) {
      impl->set_wrapped_number(true);
    }
    tensors_.push_back({t, cpu});
    return cpu;
  }

  // What a kernel gave: an argument itself, a view of one, or a new tensor.
  at::Tensor to_device(const at::Tensor& result) {
    if (!result.defined() || !result.is_cpu()) {
      return result;
    }
    for (const auto& [there, here] : tensors_) {
      if (result.is_same(here)) {
        return there;
      }
    }
    for (const auto& [there, here] : tensors_) {
      if (result.has_storage() && result.storage().is_alias_of(here.storage()) && result.numel() > 0) {
        return at::native::as_strided_tensorimpl(there, result.sizes(), result.strides(), result.storage_offset());
      }
    }
    auto made = at::empty_strided(result.sizes(), result.strides(), result.options().device(kDevice));
    if (result.numel() > 0) {
      memcpy(made.mutable_data_ptr(), result.const_data_ptr(), span(result));
    }
    return made;
  }

  // Arguments for results that the kernel has resized are resized too.
  void give_back() {
    for (const auto& [there, here] : tensors_) {
      auto* impl = there.unsafeGetTensorImpl();
      if (there.sizes() == here.sizes() && there.strides() == here.strides()) {
        continue;
      }
      const auto bytes = span(here);
      if (there.storage().nbytes() < bytes) {
        at::native::resize_bytes_cpu(impl->unsafe_storage().unsafeGetStorageImpl(), bytes);
      }
      impl->set_sizes_and_strides(here.sizes(), here.strides(), 0);
      if (here.numel() > 0 && here.const_data_ptr() != there.const_data_ptr()) {
        memcpy(there.mutable_data_ptr(), here.const_data_ptr(), bytes);
      }
    }
  }

 private:
  // One for each storage, as kernels compare them.
  c10::Storage storage_of(const c10::Storage& storage) {
    for (const auto& [there, here] : storages_) {
      if (there.unsafeGetStorageImpl() == storage.unsafeGetStorageImpl()) {
        return here;
      }
    }
    auto* owner = new c10::Storage(storage);
    at::DataPtr data(
        const_cast<void*>(storage.data()), owner, [](void* owner) { delete static_cast<c10::Storage*>(owner); },
        c10::Device(c10::kCPU));
    c10::Storage here(
        c10::Storage::use_byte_size_t(), storage.nbytes(), std::move(data), c10::GetCPUAllocator(), /*resizable=*/true);
    storages_.push_back({storage, here});
    return here;
  }

  std::vector<std::pair<at::Tensor, at::Tensor>> tensors_;
  std::vector<std::pair<c10::Storage, c10::Storage>> storages_;
};

using Stack = torch::jit::Stack;

// `f` on all tensors of a call's values.
template <typename F>
void each_tensor(c10::IValue& value, F&& f) {
  if (value.isTensor()) {
    value = f(value.toTensor());
  } else if (value.isTensorList()) {
    c10::List<at::Tensor> list;
    for (const auto& t : value.toTensorVector()) {
      list.push_back(f(t));
    }
    value = std::move(list);
  } else if (value.isOptionalTensorList()) {
    c10::List<std::optional<at::Tensor>> list;
    for (const std::optional<at::Tensor>& t : value.toOptionalTensorList()) {
      list.push_back(t.has_value() ? std::optional<at::Tensor>(f(*t)) : std::nullopt);
    }
    value = std::move(list);
  } else if (value.isDevice()) {
    value = c10::Device(c10::kCPU);
  }
}

bool is_mask(const at::Tensor& t) {
  return t.defined() && (t.scalar_type() == at::kBool || t.scalar_type() == at::kByte);
}

// Indices: a mask's length is asked of the device, those of the CPU are brought over.
void tell_of_indices(const char* op, const c10::IValue& indices) {
  for (const std::optional<at::Tensor>& index : indices.toOptionalTensorList()) {
    if (index.has_value() && index->defined() && index->is_cpu()) {
      tell(Kind::pageable_upload, op);
    } else if (index.has_value() && is_mask(*index)) {
      tell(Kind::wait, op);
    }
  }
}

// What CUDA does with one number of the CPU behind a mask: fill, which asks for no length.
bool fills(const c10::ArrayRef<c10::IValue>& arguments) {
  const auto& value = arguments[2].toTensor();
  return !arguments[3].toBool() && value.numel() == 1 && value.is_cpu();
}

// Tells of an operator that makes CUDA wait, mostly because the size of its result is a question of values.
void tell_of(const std::string& name, const c10::ArrayRef<c10::IValue>& arguments) {
  static const std::unordered_set<std::string> always{
      "aten::_unique2",    "aten::bincount", "aten::equal",           "aten::masked_select",
      "aten::multinomial", "aten::nonzero",  "aten::unique_consecutive", "aten::unique_dim",
      "torchvision::nms"};
  if (name == "aten::index") {
    tell_of_indices(name.c_str(), arguments[1]);
  } else if (name == "aten::_index_put_impl_") {
    if (!fills(arguments)) {
      tell_of_indices(name.c_str(), arguments[1]);
    }
  } else if (name == "aten::repeat_interleave") {
    if (arguments[1].isNone()) {
      tell(Kind::wait, name.c_str());
    }
  } else if (always.count(name) != 0) {
    tell(Kind::wait, name.c_str());
  }
}

// libtorch's rule: numbers (no dimensions) may come from the CPU, and indices.
void check_devices(const std::string& name, const c10::ArrayRef<c10::IValue>& arguments) {
  bool here = false, there = false;
  for (auto value : arguments) {
    if (value.isOptionalTensorList()) {
      continue;
    }
    each_tensor(value, [&](const at::Tensor& t) {
      here |= t.defined() && t.is_cpu() && t.dim() > 0;
      there |= t.defined() && t.is_mps();
      return t;
    });
  }
  TORCH_CHECK(
      !(here && there), "Expected all tensors to be on the same device, but found at least two devices, ", kDevice,
      " and cpu! (when checking arguments of ", name, ")");
}

// Every operator without a kernel of its own.
void on_cpu(const c10::OperatorHandle& op, Stack* stack) {
  const auto& schema = op.schema();
  const auto count = schema.arguments().size();
  const auto arguments = torch::jit::last(*stack, count);
  check_devices(schema.name(), arguments);
  tell_of(schema.name(), arguments);
  finish(current_stream());
  Borrowed borrowed;
  for (size_t i = stack->size() - count; i < stack->size(); ++i) {
    each_tensor((*stack)[i], [&](const at::Tensor& t) { return borrowed.to_cpu(t); });
  }
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  borrowed.give_back();
  for (size_t i = stack->size() - schema.returns().size(); i < stack->size(); ++i) {
    each_tensor((*stack)[i], [&](const at::Tensor& t) { return borrowed.to_device(t); });
  }
}

// ---- memory and views

at::Tensor empty(
    at::IntArrayRef size, std::optional<at::ScalarType> type, std::optional<at::Layout>, std::optional<at::Device>,
    std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(
      size, device_allocator(), c10::DispatchKeySet(c10::DispatchKey::MPS), c10::dtype_or_default(type), format);
}

at::Tensor empty_strided(
    at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> type, std::optional<at::Layout>,
    std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(
      size, stride, device_allocator(), c10::DispatchKeySet(c10::DispatchKey::MPS), c10::dtype_or_default(type));
}

at::Tensor as_strided(
    const at::Tensor& self, at::IntArrayRef size, at::IntArrayRef stride, std::optional<int64_t> offset) {
  return at::native::as_strided_tensorimpl(self, size, stride, offset);
}

at::Tensor& set_storage(
    at::Tensor& self, at::Storage source, int64_t offset, at::IntArrayRef size, at::IntArrayRef stride) {
  return at::native::set_storage_cpu_(self, std::move(source), offset, size, stride);
}

// Work that was put off holds what it uses.
void record_stream(at::Tensor&, at::Stream) {}

// ---- copies

// Whether CUDA copies it as it lies, in one piece.
bool is_one_piece(const at::Tensor& to, const at::Tensor& from) {
  return to.scalar_type() == from.scalar_type() && to.sizes() == from.sizes() && to.strides() == from.strides() &&
      to.is_non_overlapping_and_dense();
}

void copy_later(const at::Tensor& to, const at::Tensor& from, bool up) {
  const auto bytes = span(to);
  const auto* begin = static_cast<const char*>(from.const_data_ptr());
  // Whoever fills the buffer anew too early is found out.
  auto before = up ? std::vector<char>(begin, begin + bytes) : std::vector<char>();
  poison(to.mutable_data_ptr(), bytes);
  put_off([to, from, bytes, before = std::move(before)] {
    TORCH_CHECK(
        before.empty() || memcmp(before.data(), from.const_data_ptr(), bytes) == 0,
        "the stand-in: pinned memory was written to before its copy to the device was done");
    memcpy(to.mutable_data_ptr(), from.const_data_ptr(), bytes);
  });
}

at::Tensor& copy_(at::Tensor& self, const at::Tensor& source, bool non_blocking) {
  if (self.is_same(source)) {
    return self;
  }
  TORCH_CHECK(
      (self.is_cpu() || self.is_mps()) && (source.is_cpu() || source.is_mps()), "the stand-in copies no ",
      source.device(), " to ", self.device());
  const bool up = self.is_mps() && source.is_cpu(), down = self.is_cpu() && source.is_mps();
  if (self.numel() > 0 && (up || down)) {
    const bool pinned = is_pinned((up ? source : self).const_data_ptr()) && is_one_piece(self, source);
    if (pinned && non_blocking) {
      finish(current_stream());
      copy_later(self, source, up);
      return self;
    }
    tell(up && !pinned ? Kind::pageable_upload : Kind::wait, up ? "copy to the device" : "copy to the CPU");
  }
  finish(current_stream());
  Borrowed borrowed;
  auto to = borrowed.to_cpu(self);
  to.copy_(borrowed.to_cpu(source));
  return self;
}

at::Scalar local_scalar_dense(const at::Tensor& self) {
  tell(Kind::wait, "aten::_local_scalar_dense");
  finish(current_stream());
  return at::_local_scalar_dense(Borrowed().to_cpu(self));
}

// ---- convolutions: for a device that libtorch knows no kernels of, it asks for these by name

at::Tensor convolution(
    const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias, at::IntArrayRef stride,
    at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed, at::IntArrayRef output_padding,
    int64_t groups) {
  finish(current_stream());
  Borrowed all;
  const auto b = bias.has_value() ? std::optional<at::Tensor>(all.to_cpu(*bias)) : std::nullopt;
  return all.to_device(at::convolution(
      all.to_cpu(input), all.to_cpu(weight), b, stride, padding, dilation, transposed, output_padding, groups));
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(
    const at::Tensor& gradient, const at::Tensor& input, const at::Tensor& weight, at::IntArrayRef stride,
    at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed, at::IntArrayRef output_padding, int64_t groups,
    std::array<bool, 3> mask) {
  finish(current_stream());
  Borrowed all;
  const int64_t channels = gradient.size(1);
  const auto [i, w, b] = at::convolution_backward(
      all.to_cpu(gradient), all.to_cpu(input), all.to_cpu(weight), at::IntArrayRef(&channels, 1), stride, padding,
      dilation, transposed, output_padding, groups, mask);
  return {all.to_device(i), all.to_device(w), all.to_device(b)};
}

}  // namespace

TORCH_LIBRARY_IMPL(_, MPS, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&on_cpu>());
}

TORCH_LIBRARY_IMPL(aten, MPS, m) {
  // Without kernels of their own libtorch would make these out of others: a mask would be counted twice, and a sum warn.
  m.impl("index.Tensor", torch::CppFunction::makeFromBoxedFunction<&on_cpu>());
  m.impl("mse_loss", torch::CppFunction::makeFromBoxedFunction<&on_cpu>());
  m.impl("smooth_l1_loss", torch::CppFunction::makeFromBoxedFunction<&on_cpu>());
  m.impl("empty.memory_format", TORCH_FN(empty));
  m.impl("empty_strided", TORCH_FN(empty_strided));
  m.impl("as_strided", TORCH_FN(as_strided));
  m.impl("view", TORCH_FN(at::native::view));
  m.impl("_reshape_alias", TORCH_FN(at::native::_reshape_alias));
  m.impl("resize_", TORCH_FN(at::native::resize_));
  m.impl("set_.source_Storage_storage_offset", TORCH_FN(set_storage));
  m.impl("record_stream", TORCH_FN(record_stream));
  m.impl("copy_", TORCH_FN(copy_));
  m.impl("_local_scalar_dense", TORCH_FN(local_scalar_dense));
  m.impl("convolution_overrideable", TORCH_FN(convolution));
  m.impl("convolution_backward_overrideable", TORCH_FN(convolution_backward));
}

}  // namespace stand_in
