// RoIAlign on the CPU, forward and backward, both parallel and deterministic.
//
// The sampled bilinear average of RoIAlign (He et al. 2017, Mask R-CNN, section 3) is separable: with S sampling points a
// bin, out[p, q] = sum_y sum_x Wy[p, y] * in[y, x] * Wx[q, x] / S, where row p of Wy holds the interpolation weights of
// the points of bin p along y. So a box needs two small sparse matrices, made once for all channels, and each channel
// costs two thin products instead of four scattered reads a point. Points and weights are those of torchvision
// (`aligned` and `sampling_ratio` mean the same); only the order of additions differs.
//
// The backward pass gives every thread its own planes (image, channel), so nothing is shared and the sums are always
// made in the same order.
#include "shim.h"

#include <algorithm>
#include <cmath>

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

namespace {

struct Shape {
  double scale;
  int64_t pooled_h, pooled_w;
  int64_t sampling_ratio;
  bool aligned;
};

// One axis of one box: for each bin the cells it reads with their weights, equal cells merged.
template <typename T>
struct Axis {
  std::vector<int32_t> start;  // bin b owns entries start[b] .. start[b + 1]
  std::vector<int32_t> cell;
  std::vector<T> weight;
  int32_t first = 0, end = 0;  // all cells lie in first .. end
};

template <typename T>
struct Box {
  int64_t image;
  T inverse_count;
  Axis<T> y, x;
};

template <typename T>
Axis<T> make_axis(T start, T bin, int64_t bins, int64_t points, int64_t size) {
  Axis<T> axis;
  axis.start.reserve(bins + 1);
  axis.start.push_back(0);
  auto add = [&](size_t from, int32_t cell, T weight) {
    for (size_t e = axis.cell.size(); e > from && e + 3 > axis.cell.size(); --e) {
      if (axis.cell[e - 1] == cell) {
        axis.weight[e - 1] += weight;
        return;
      }
    }
    axis.cell.push_back(cell);
    axis.weight.push_back(weight);
  };
  for (int64_t b = 0; b < bins; ++b) {
    const size_t from = axis.cell.size();
    for (int64_t i = 0; i < points; ++i) {
      T at = start + b * bin + (i + T(0.5)) * bin / static_cast<T>(points);
      // A point more than one cell outside reads zero (and so does one that is not a number).
      if (!(at >= T(-1) && at <= static_cast<T>(size))) {
        continue;
      }
      at = std::max(at, T(0));
      const auto low = static_cast<int32_t>(at);
      if (low >= size - 1) {
        add(from, static_cast<int32_t>(size - 1), T(1));
      } else {
        const T high_weight = at - static_cast<T>(low);
        add(from, low, T(1) - high_weight);
        add(from, low + 1, high_weight);
      }
    }
    axis.start.push_back(static_cast<int32_t>(axis.cell.size()));
  }
  if (!axis.cell.empty()) {
    const auto [low, high] = std::minmax_element(axis.cell.begin(), axis.cell.end());
    axis.first = *low;
    axis.end = *high + 1;
  }
  return axis;
}

template <typename T>
std::vector<Box<T>> make_boxes(const T* rois, int64_t k, const Shape& s, int64_t n, int64_t h, int64_t w) {
  std::vector<Box<T>> boxes(k);
  at::parallel_for(0, k, 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const T* roi = rois + 5 * i;
      const auto image = static_cast<int64_t>(roi[0]);
      TORCH_CHECK(image >= 0 && image < n, "roi_align: box ", i, " belongs to image ", image, " of a batch of ", n);
      const T offset = s.aligned ? T(0.5) : T(0);
      const T scale = static_cast<T>(s.scale);
      const T x0 = roi[1] * scale - offset, y0 = roi[2] * scale - offset;
      T width = roi[3] * scale - offset - x0, height = roi[4] * scale - offset - y0;
      if (!s.aligned) {
        width = std::max(width, T(1));
        height = std::max(height, T(1));
      }
      const T bin_h = height / static_cast<T>(s.pooled_h), bin_w = width / static_cast<T>(s.pooled_w);
      auto points = [&](T bin) {
        if (s.sampling_ratio > 0) {
          return s.sampling_ratio;
        }
        const T wanted = std::ceil(bin);
        TORCH_CHECK(wanted < T(1 << 20), "roi_align: box ", i, " is too large (or not finite) to sample");
        return std::max<int64_t>(static_cast<int64_t>(wanted), 0);
      };
      const int64_t ny = points(bin_h), nx = points(bin_w);
      Box<T>& box = boxes[i];
      box.image = image;
      box.inverse_count = T(1) / static_cast<T>(std::max<int64_t>(ny * nx, 1));
      box.y = make_axis<T>(y0, bin_h, s.pooled_h, ny, h);
      box.x = make_axis<T>(x0, bin_w, s.pooled_w, nx, w);
    }
  });
  return boxes;
}

// out[p, q] of one box and one plane; `line` is room for one row of the plane.
template <typename T>
void pool(const Box<T>& box, const T* plane, int64_t w, const Shape& s, T* line, T* out) {
  const int32_t x0 = box.x.first, x1 = box.x.end;
  for (int64_t p = 0; p < s.pooled_h; ++p) {
    std::fill(line + x0, line + x1, T(0));
    for (int32_t e = box.y.start[p]; e < box.y.start[p + 1]; ++e) {
      const T weight = box.y.weight[e];
      const T* row = plane + box.y.cell[e] * w;
      for (int32_t x = x0; x < x1; ++x) {
        line[x] += weight * row[x];
      }
    }
    for (int64_t q = 0; q < s.pooled_w; ++q) {
      T sum = 0;
      for (int32_t e = box.x.start[q]; e < box.x.start[q + 1]; ++e) {
        sum += box.x.weight[e] * line[box.x.cell[e]];
      }
      out[p * s.pooled_w + q] = sum * box.inverse_count;
    }
  }
}

// The transpose of `pool`: adds the gradient of one box to one plane.
template <typename T>
void spread(const Box<T>& box, const T* grad, int64_t w, const Shape& s, T* line, T* plane) {
  const int32_t x0 = box.x.first, x1 = box.x.end;
  for (int64_t p = 0; p < s.pooled_h; ++p) {
    if (box.y.start[p] == box.y.start[p + 1]) {
      continue;
    }
    std::fill(line + x0, line + x1, T(0));
    for (int64_t q = 0; q < s.pooled_w; ++q) {
      const T g = grad[p * s.pooled_w + q] * box.inverse_count;
      for (int32_t e = box.x.start[q]; e < box.x.start[q + 1]; ++e) {
        line[box.x.cell[e]] += box.x.weight[e] * g;
      }
    }
    for (int32_t e = box.y.start[p]; e < box.y.start[p + 1]; ++e) {
      const T weight = box.y.weight[e];
      T* row = plane + box.y.cell[e] * w;
      for (int32_t x = x0; x < x1; ++x) {
        row[x] += weight * line[x];
      }
    }
  }
}

// Half types are computed in float: a CPU adds them slowly and loses digits.
at::ScalarType compute_type(const at::Tensor& t) {
  return t.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

at::Tensor forward_cpu(const at::Tensor& input, const at::Tensor& rois, const Shape& s) {
  const auto type = compute_type(input);
  const auto in = input.to(type).contiguous();
  const auto boxes_in = rois.to(type).contiguous();
  const int64_t n = in.size(0), c = in.size(1), h = in.size(2), w = in.size(3), k = rois.size(0);
  auto out = at::empty({k, c, s.pooled_h, s.pooled_w}, in.options());
  AT_DISPATCH_FLOATING_TYPES(type, "pipe_roi_align", [&] {
    const auto boxes = make_boxes<scalar_t>(boxes_in.const_data_ptr<scalar_t>(), k, s, n, h, w);
    const auto* data = in.const_data_ptr<scalar_t>();
    auto* result = out.mutable_data_ptr<scalar_t>();
    const int64_t bins = s.pooled_h * s.pooled_w;
    at::parallel_for(0, k, 1, [&](int64_t begin, int64_t end) {
      std::vector<scalar_t> line(w);
      for (int64_t i = begin; i < end; ++i) {
        for (int64_t ch = 0; ch < c; ++ch) {
          const auto* plane = data + (boxes[i].image * c + ch) * h * w;
          pool(boxes[i], plane, w, s, line.data(), result + (i * c + ch) * bins);
        }
      }
    });
  });
  return out.to(input.scalar_type());
}

at::Tensor backward_cpu(const at::Tensor& grad, const at::Tensor& rois, at::IntArrayRef size, const Shape& s) {
  const auto type = compute_type(grad);
  const auto g = grad.to(type).contiguous();
  const auto boxes_in = rois.to(type).contiguous();
  const int64_t n = size[0], c = size[1], h = size[2], w = size[3], k = rois.size(0);
  auto out = at::zeros(size, g.options());
  AT_DISPATCH_FLOATING_TYPES(type, "pipe_roi_align_backward", [&] {
    const auto boxes = make_boxes<scalar_t>(boxes_in.const_data_ptr<scalar_t>(), k, s, n, h, w);
    std::vector<std::vector<int64_t>> of_image(n);
    for (int64_t i = 0; i < k; ++i) {
      of_image[boxes[i].image].push_back(i);
    }
    const auto* grads = g.const_data_ptr<scalar_t>();
    auto* result = out.mutable_data_ptr<scalar_t>();
    const int64_t bins = s.pooled_h * s.pooled_w;
    at::parallel_for(0, n * c, 1, [&](int64_t begin, int64_t end) {
      std::vector<scalar_t> line(w);
      for (int64_t p = begin; p < end; ++p) {
        for (const int64_t i : of_image[p / c]) {
          spread(boxes[i], grads + (i * c + p % c) * bins, w, s, line.data(), result + p * h * w);
        }
      }
    });
  });
  return out.to(grad.scalar_type());
}

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

void save_shape(AutogradContext* ctx, const Shape& s, at::IntArrayRef size) {
  ctx->saved_data["scale"] = s.scale;
  ctx->saved_data["ints"] = std::vector<int64_t>{s.pooled_h, s.pooled_w, s.sampling_ratio, s.aligned ? 1 : 0};
  ctx->saved_data["size"] = size.vec();
}

Shape load_shape(AutogradContext* ctx) {
  const auto ints = ctx->saved_data["ints"].toIntVector();
  return Shape{ctx->saved_data["scale"].toDouble(), ints[0], ints[1], ints[2], ints[3] != 0};
}

// The operator is linear in its input, so the gradient of its gradient is the operator itself.
struct RoiAlignGrad : public torch::autograd::Function<RoiAlignGrad> {
  static Variable forward(
      AutogradContext* ctx, const Variable& grad, const Variable& rois, const std::vector<int64_t>& size, Shape s) {
    ctx->save_for_backward({rois});
    save_shape(ctx, s, size);
    return backward_cpu(grad, rois, size, s);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    return {forward_cpu(grads[0], ctx->get_saved_variables()[0], load_shape(ctx)), Variable(), Variable(), Variable()};
  }
};

struct RoiAlign : public torch::autograd::Function<RoiAlign> {
  static Variable forward(AutogradContext* ctx, const Variable& input, const Variable& rois, Shape s) {
    ctx->save_for_backward({rois});
    save_shape(ctx, s, input.sizes());
    return forward_cpu(input, rois, s);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto rois = ctx->get_saved_variables()[0];
    auto grad = RoiAlignGrad::apply(grads[0], rois, ctx->saved_data["size"].toIntVector(), load_shape(ctx));
    return {grad, Variable(), Variable()};
  }
};

}  // namespace

PN_EXPORT Error pn_roi_align_cpu(
    Handle input, Handle rois, double scale, int64_t pooled_h, int64_t pooled_w, int64_t sampling_ratio, bool aligned,
    Handle* out) {
  return pn_guard([&] {
    TORCH_CHECK(input->dim() == 4, "roi_align: the input must be [N, C, H, W], got ", input->sizes());
    TORCH_CHECK(rois->dim() == 2 && rois->size(1) == 5, "roi_align: the boxes must be [K, 5], got ", rois->sizes());
    TORCH_CHECK(pooled_h > 0 && pooled_w > 0, "roi_align: the output size must be positive");
    TORCH_CHECK(input->is_floating_point(), "roi_align: the input must be of a floating-point type");
    const Shape shape{scale, pooled_h, pooled_w, sampling_ratio, aligned};
    *out = pn_new(RoiAlign::apply(*input, rois->detach(), shape));
  });
}
