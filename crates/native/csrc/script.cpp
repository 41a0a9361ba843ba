// Modules of TorchScript files: their tensors by name, their mode, a call.
#include "shim.h"

#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/serialization/import.h>

using Module = torch::jit::Module;
// Takes one named tensor; the handle is the callee's to delete.
using Take = void (*)(void* context, const char* name, Handle tensor);

namespace {

// Whatever a module returns, as named tensors: a tensor has no name, those of a tuple or list are numbered, those of a
// dictionary keep their keys.
void give(const c10::IValue& value, const std::string& name, void* context, Take take) {
  const auto inner = [&](const std::string& key) { return name.empty() ? key : name + "." + key; };
  if (value.isTensor()) {
    take(context, name.c_str(), pn_new(value.toTensor()));
  } else if (value.isTuple()) {
    const auto& elements = value.toTupleRef().elements();
    for (size_t i = 0; i < elements.size(); ++i) {
      give(elements[i], inner(std::to_string(i)), context, take);
    }
  } else if (value.isList()) {
    const auto elements = value.toListRef();
    for (size_t i = 0; i < elements.size(); ++i) {
      give(elements[i], inner(std::to_string(i)), context, take);
    }
  } else if (value.isGenericDict()) {
    for (const auto& entry : value.toGenericDict()) {
      TORCH_CHECK(entry.key().isString(), "the module returned a dictionary whose keys are no strings");
      give(entry.value(), inner(entry.key().toStringRef()), context, take);
    }
  } else {
    TORCH_CHECK(value.isNone(), "the module returned a ", value.tagKind(), ", which holds no tensors");
  }
}

}  // namespace

PN_EXPORT Error pn_script_load(const char* path, Module** out) {
  // Files saved on a GPU load on any machine.
  return pn_guard([&] { *out = new Module(torch::jit::load(path, c10::Device(c10::kCPU))); });
}

PN_EXPORT void pn_script_delete(Module* module) {
  delete module;
}

PN_EXPORT Error pn_script_tensors(const Module* module, bool buffers, void* context, Take take) {
  return pn_guard([&] {
    if (buffers) {
      for (const auto& buffer : module->named_buffers()) {
        take(context, buffer.name.c_str(), pn_new(buffer.value));
      }
    } else {
      for (const auto& parameter : module->named_parameters()) {
        take(context, parameter.name.c_str(), pn_new(parameter.value));
      }
    }
  });
}

PN_EXPORT Error pn_script_train(Module* module, bool on) {
  return pn_guard([&] { module->train(on); });
}

PN_EXPORT Error pn_script_to(Module* module, int device) {
  return pn_guard([&] { module->to(pn_device(device)); });
}

PN_EXPORT Error pn_script_forward(Module* module, const Handle* inputs, size_t n, void* context, Take take) {
  return pn_guard([&] {
    std::vector<c10::IValue> stack;
    for (auto& input : pn_list(inputs, n)) {
      stack.emplace_back(std::move(input));
    }
    // Operator by operator, as eager PyTorch: the optimising executor changes the numbers after its first runs, and a
    // resumed training would then differ from one that was not stopped.
    const torch::jit::GraphOptimizerEnabledGuard plain(false);
    give(module->forward(std::move(stack)), "", context, take);
  });
}
