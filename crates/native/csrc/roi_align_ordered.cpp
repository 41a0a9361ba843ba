// RoIAlign with a gradient that is summed in the same order on every run, on any device.
//
// torchvision's kernel for GPUs adds the gradients of overlapping boxes in the order in which they happen to arrive, and
// refuses to run where the same numbers are asked for on every run. The operator is separable (see roi_align.cpp), so its
// gradient is two matrix products a box, with the weights of rows and columns written out as matrices:
//   grad[n] = sum over the boxes k of image n of  Wy[k]^T  G[k]  Wx[k]
// and a product over the rows of many boxes makes the sum, which cuBLAS does in a fixed order. Forward is torchvision's.
#include "shim.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

namespace {

// Boxes taken at once: bounds the room for the intermediate [boxes * P, C * W].
constexpr int64_t kChunk = 64;

// The weights of one axis for each box, [K, bins, size], and the points in a bin, [K].
std::pair<at::Tensor, at::Tensor> axis(
    const at::Tensor& start, const at::Tensor& length, int64_t bins, int64_t ratio, int64_t size) {
  const auto options = start.options();
  const auto bin = length / bins;
  const auto points = ratio > 0 ? at::full_like(bin, ratio) : bin.ceil().clamp_min(0);
  const int64_t most = ratio > 0 ? ratio : points.max().item<int64_t>();
  const auto point = at::arange(most, options).view({1, 1, most});
  const auto step = bin.view({-1, 1, 1}), count = points.view({-1, 1, 1});
  const auto at = start.view({-1, 1, 1}) + at::arange(bins, options).view({1, bins, 1}) * step +
      (point + 0.5) * step / count.clamp_min(1);
  // A point more than one cell outside reads zero (and so does one that is not a number).
  const auto inside = at.ge(-1).logical_and(at.le(size)).logical_and(point.lt(count));
  const auto cells = at::arange(size, options).view({1, 1, 1, size});
  const auto weights = (1 - (at.clamp(0, size - 1).unsqueeze(-1) - cells).abs()).clamp_min(0);
  return {at::where(inside.unsqueeze(-1), weights, at::zeros({}, options)).sum(2), points};
}

struct Settings {
  double scale;
  int64_t pooled_h, pooled_w, ratio;
  bool aligned;
};

// [C, H, W] of one image: `grad` [K, C, P, Q], `rois` [K, 5].
at::Tensor spread(const at::Tensor& grad, const at::Tensor& rois, int64_t height, int64_t width, const Settings& s) {
  const int64_t k = grad.size(0), c = grad.size(1);
  const auto corner = rois * s.scale - (s.aligned ? 0.5 : 0.0);
  const auto side = [&](int64_t from) {
    const auto length = corner.select(1, from + 2) - corner.select(1, from);
    return s.aligned ? length : length.clamp_min(1);
  };
  const auto [wy, ny] = axis(corner.select(1, 2), side(2), s.pooled_h, s.ratio, height);
  const auto [wx, nx] = axis(corner.select(1, 1), side(1), s.pooled_w, s.ratio, width);
  const auto scaled = grad / (ny * nx).clamp_min(1).view({-1, 1, 1, 1});
  auto rows = at::bmm(scaled.reshape({k, c * s.pooled_h, s.pooled_w}), wx);  // [K, C * P, W]
  rows = rows.view({k, c, s.pooled_h, width}).permute({0, 2, 1, 3}).reshape({k * s.pooled_h, c * width});
  const auto columns = wy.reshape({k * s.pooled_h, height}).t();  // [H, K * P]
  return at::mm(columns, rows).view({height, c, width}).permute({1, 0, 2});
}

at::Tensor gradient(const at::Tensor& grad, const at::Tensor& rois, at::IntArrayRef size, const Settings& s) {
  const auto type = grad.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const auto given = grad.to(type), boxes = rois.to(type);
  const auto owner = boxes.select(1, 0).to(at::kLong);
  std::vector<at::Tensor> images;
  for (int64_t n = 0; n < size[0]; ++n) {
    auto sum = at::zeros({size[1], size[2], size[3]}, given.options());
    const auto own = owner.eq(n).nonzero().squeeze(1);
    for (int64_t from = 0; from < own.size(0); from += kChunk) {
      const auto some = own.slice(0, from, from + kChunk);
      sum = sum + spread(given.index_select(0, some), boxes.index_select(0, some), size[2], size[3], s);
    }
    images.push_back(sum);
  }
  return at::stack(images).to(grad.scalar_type());
}

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

struct OrderedRoiAlign : public torch::autograd::Function<OrderedRoiAlign> {
  static Variable forward(AutogradContext* ctx, const Variable& input, const Variable& rois, Settings s) {
    ctx->save_for_backward({rois});
    ctx->saved_data["scale"] = s.scale;
    ctx->saved_data["ints"] = std::vector<int64_t>{s.pooled_h, s.pooled_w, s.ratio, s.aligned ? 1 : 0};
    ctx->saved_data["size"] = input.sizes().vec();
    return pn_call("torchvision::roi_align", {input, rois, s.scale, s.pooled_h, s.pooled_w, s.ratio, s.aligned});
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto ints = ctx->saved_data["ints"].toIntVector();
    const Settings s{ctx->saved_data["scale"].toDouble(), ints[0], ints[1], ints[2], ints[3] != 0};
    const auto size = ctx->saved_data["size"].toIntVector();
    return {gradient(grads[0], ctx->get_saved_variables()[0], size, s), Variable(), Variable()};
  }
};

}  // namespace

PN_EXPORT Error pn_roi_align_ordered(
    Handle input, Handle rois, double scale, int64_t pooled_h, int64_t pooled_w, int64_t sampling_ratio, bool aligned,
    Handle* out) {
  return pn_guard([&] {
    const Settings settings{scale, pooled_h, pooled_w, sampling_ratio, aligned};
    *out = pn_new(OrderedRoiAlign::apply(*input, rois->detach(), settings));
  });
}
