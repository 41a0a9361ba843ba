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

// A convolution's gradients cost two convolutions, of which torch's profiler counts none. Inputs: gradient [N, C, ...], input, weight.
uint64_t backward_flops(const profiler::KinetoEvent& event) {
  const auto shapes = event.shapes();
  if (event.name() != "aten::convolution_backward" || shapes.size() < 3) {
    return 0;
  }
  uint64_t flops = 4;
  for (const auto side : shapes[0]) {
    flops *= static_cast<uint64_t>(side);
  }
  for (size_t i = 1; i < shapes[2].size(); ++i) {
    flops *= static_cast<uint64_t>(shapes[2][i]);
  }
  return flops;
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
// nanoseconds, floating-point operations, with tabs between; to be freed.
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
      sum.flops += event.flops() + backward_flops(event);
    }
    std::ostringstream text;
    for (const auto& [key, sum] : all) {
      auto name = key.first;
      std::replace_if(name.begin(), name.end(), [](char c) { return c == '\t' || c == '\n'; }, ' ');
      text << name << '\t' << key.second << '\t' << sum.times << '\t' << sum.nanoseconds << '\t' << sum.flops << '\n';
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
