// torch's own profiler (Kineto): what operators and kernels took, as a trace and as sums.
#include "shim.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <set>
#include <sstream>

#include <ATen/Context.h>
#include <ATen/record_function.h>
#include <torch/csrc/autograd/profiler_kineto.h>

namespace {

namespace profiler = torch::autograd::profiler;
using torch::profiler::impl::ActivityType;

struct Sum {
  uint64_t times = 0, nanoseconds = 0, flops = 0;
};

// What a range came to: itself, and what its backward pass did.
struct Part {
  uint64_t forward = 0, backward = 0, flops = 0;
};

// A stretch of a thread's time that belongs to a range, by the range's name.
struct Stretch {
  uint64_t end;
  std::string name;
};

// 2 · the numbers of `image` [N, C, ...] · those of `weight` [., ...] that each of them meets.
uint64_t products(const std::vector<int64_t>& image, const std::vector<int64_t>& weight) {
  uint64_t flops = weight.empty() ? 0 : 2;
  for (const auto side : image) {
    flops *= static_cast<uint64_t>(side);
  }
  for (size_t i = 1; i < weight.size(); ++i) {
    flops *= static_cast<uint64_t>(weight[i]);
  }
  return flops;
}

// What torch's profiler does not count: transposed convolutions, and the gradients of all, each as much work as the convolution.
uint64_t more_flops(const profiler::KinetoEvent& event) {
  const auto shapes = event.shapes();
  const auto name = event.name();
  if (name == "aten::conv_transpose2d" && shapes.size() > 1) {
    return products(shapes[0], shapes[1]);
  }
  // grad_output, input, weight, bias_sizes, stride, padding, dilation, transposed, output_padding, groups, output_mask
  const auto values = event.concreteInputs();
  if (name != "aten::convolution_backward" || shapes.size() < 3 || values.size() < 11) {
    return 0;
  }
  const bool transposed = values[7].isBool() && values[7].toBool();
  const auto once = products(shapes[transposed ? 1 : 0], shapes[2]);
  if (!values[10].isBoolList()) {
    return 2 * once;
  }
  const auto wanted = values[10].toBoolList();
  return once * (static_cast<uint64_t>(wanted[0]) + static_cast<uint64_t>(wanted[1]));
}

// Work by the innermost range that it is for. An operator that is differentiated has the number under which its backward step is called.
std::map<std::string, Part> parts_of(const std::vector<profiler::KinetoEvent>& events) {
  // Of each thread, by their begin.
  std::map<uint64_t, std::map<uint64_t, Stretch>> stretches;
  std::map<std::string, Part> parts;
  const auto around = [&](const profiler::KinetoEvent& event) -> const std::string* {
    const auto thread = stretches.find(event.startThreadId());
    if (thread == stretches.end()) {
      return nullptr;
    }
    // Ranges are few and lie within each other: the last that began before and ends after is the innermost.
    for (auto it = thread->second.upper_bound(event.startNs()); it != thread->second.begin();) {
      --it;
      if (it->second.end >= event.endNs()) {
        return &it->second.name;
      }
    }
    return nullptr;
  };
  std::vector<const profiler::KinetoEvent*> host, backward;
  for (const auto& event : events) {
    if (event.deviceType() != c10::DeviceType::CPU) {
      continue;
    }
    if (event.scope() == static_cast<uint8_t>(at::RecordScope::USER_SCOPE)) {
      stretches[event.startThreadId()][event.startNs()] = {event.endNs(), event.name()};
      parts[event.name()].forward += event.durationNs();
    } else {
      host.push_back(&event);
    }
  }
  std::map<int64_t, std::string> steps;
  for (const auto* event : host) {
    const bool step = event->name().rfind("autograd::engine::evaluate_function", 0) == 0;
    if (step) {
      backward.push_back(event);
    } else if (const auto* name = around(*event)) {
      parts[*name].flops += event->flops() + more_flops(*event);
      if (event->sequenceNr() >= 0) {
        steps.emplace(event->sequenceNr(), *name);
      }
    }
  }
  decltype(stretches) of_backward;
  for (const auto* event : backward) {
    const auto found = steps.find(event->sequenceNr());
    if (found != steps.end()) {
      parts[found->second].backward += event->durationNs();
      of_backward[event->startThreadId()][event->startNs()] = {event->endNs(), found->second};
    }
  }
  stretches = std::move(of_backward);
  for (const auto* event : host) {
    const auto* name = around(*event);
    if (name != nullptr && event->name().rfind("autograd::engine::evaluate_function", 0) != 0) {
      parts[*name].flops += event->flops() + more_flops(*event);
    }
  }
  return parts;
}

std::string plain(std::string name) {
  std::replace_if(name.begin(), name.end(), [](char c) { return c == '\t' || c == '\n'; }, ' ');
  return name;
}

}  // namespace

PN_EXPORT Error pn_profile_begin() {
  return pn_guard([&] {
    const torch::profiler::impl::ProfilerConfig config(
        torch::profiler::impl::ProfilerState::KINETO, /*report_input_shapes=*/true, /*profile_memory=*/false, /*with_stack=*/false,
        /*with_flops=*/true);
    // Where there is no GPU it would say so as an error.
    setenv("KINETO_LOG_LEVEL", "99", 0);
    std::set<ActivityType> activities{ActivityType::CPU};
    if (at::globalContext().hasCUDA()) {
      activities.insert(ActivityType::CUDA);
    }
    profiler::prepareProfiler(config, activities);
    profiler::enableProfiler(config, activities);
  });
}

// `trace`: where Chrome's trace is written, or null. `sums`: a line for each name, on the CPU or a device: name, device, times,
// nanoseconds, floating-point operations, with tabs between; then, after an empty line, one for each range: name, nanoseconds of it and of
// its backward pass, floating-point operations of both; to be freed.
PN_EXPORT Error pn_profile_end(const char* trace, char** sums) {
  return pn_guard([&] {
    const auto result = profiler::disableProfiler();
    if (trace != nullptr) {
      result->save(trace);
    }
    std::map<std::pair<std::string, bool>, Sum> all;
    for (const auto& event : result->events()) {
      auto& sum = all[{event.name(), event.deviceType() != c10::DeviceType::CPU}];
      sum.times += 1;
      sum.nanoseconds += event.durationNs();
      sum.flops += event.flops() + more_flops(event);
    }
    std::ostringstream text;
    for (const auto& [key, sum] : all) {
      text << plain(key.first) << '\t' << key.second << '\t' << sum.times << '\t' << sum.nanoseconds << '\t' << sum.flops << '\n';
    }
    text << '\n';
    for (const auto& [name, part] : parts_of(result->events())) {
      text << plain(name) << '\t' << part.forward << '\t' << part.backward << '\t' << part.flops << '\n';
    }
    *sums = strdup(text.str().c_str());
  });
}

PN_EXPORT void* pn_range_begin(const char* name) {
  auto* range = new at::RecordFunction(at::RecordScope::USER_SCOPE);
  if (range->isActive()) {
    range->before(std::string(name));
  }
  return range;
}

PN_EXPORT void pn_range_end(void* range) {
  delete static_cast<at::RecordFunction*>(range);
}
