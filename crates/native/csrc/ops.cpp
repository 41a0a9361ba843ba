// torchvision's registered operators, called through the dispatcher once its libraries have been opened (src/torchvision.rs).
#include "shim.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/from_blob.h>

// Calls a registered operator of one result; arguments that the schema lists beyond `args` take their defaults.
at::Tensor pn_call(const char* name, std::initializer_list<c10::IValue> args) {
  const auto op = c10::Dispatcher::singleton().findSchema({name, ""});
  TORCH_CHECK(op.has_value(), "the operator ", name, " is not registered: torchvision's library is not open");
  torch::jit::Stack stack(args);
  const auto& schema = op->schema().arguments();
  for (size_t i = stack.size(); i < schema.size(); ++i) {
    TORCH_CHECK(schema[i].default_value().has_value(), name, ": the argument ", schema[i].name(), " is missing");
    stack.push_back(*schema[i].default_value());
  }
  op->callBoxed(stack);
  return stack.at(0).toTensor();
}

namespace {

// In one pass: libtorch's own operators would hold the image several times over, in wider types.
at::Tensor from_16_bits(at::Tensor image) {
  if (!image.is_non_overlapping_and_dense()) {
    image = image.contiguous();
  }
  auto out = at::empty_strided(image.sizes(), image.strides(), image.options().dtype(at::kByte));
  const auto* from = image.const_data_ptr<uint16_t>();
  auto* to = out.mutable_data_ptr<uint8_t>();
  for (int64_t i = 0; i < image.numel(); ++i) {
    to[i] = static_cast<uint8_t>(from[i] / 257);
  }
  return out;
}

// Whatever a decoder gives, as u8 [3, H, W]: 16-bit PNG comes as uint16, GIF as a stack of frames. Mostly a view of whole
// pixels row by row, as decoders write them; turning bytes into planes and back costs as much as half the decoding.
at::Tensor to_rgb8(at::Tensor image) {
  if (image.dim() == 4) {
    image = image.select(0, 0);
  }
  if (image.scalar_type() == at::kUInt16) {
    image = from_16_bits(image);
  }
  TORCH_CHECK(
      image.dim() == 3 && image.size(0) == 3 && image.scalar_type() == at::kByte,
      "the decoder gave ", image.scalar_type(), " of the shape ", image.sizes(), " in place of u8 [3, H, W]");
  return image;
}

}  // namespace

PN_EXPORT Error pn_has_op(const char* name, bool* out) {
  return pn_guard([&] { *out = c10::Dispatcher::singleton().findSchema({name, ""}).has_value(); });
}

PN_EXPORT Error pn_nms(Handle boxes, Handle scores, double iou, Handle* out) {
  return pn_guard([&] { *out = pn_new(pn_call("torchvision::nms", {*boxes, *scores, iou})); });
}

PN_EXPORT Error pn_roi_align(
    Handle input, Handle rois, double scale, int64_t pooled_h, int64_t pooled_w, int64_t sampling_ratio, bool aligned,
    Handle* out) {
  return pn_guard([&] {
    *out = pn_new(
        pn_call("torchvision::roi_align", {*input, *rois, scale, pooled_h, pooled_w, sampling_ratio, aligned}));
  });
}

// `format` is "image" (told from the first bytes), "jpeg" or "png".
PN_EXPORT Error pn_decode(const uint8_t* bytes, size_t len, const char* format, bool exif, Handle* out) {
  return pn_guard([&] {
    constexpr int64_t kRgb = 3;  // torchvision's ImageReadMode::RGB
    // The decoders only read; the tensor does not outlive this call.
    auto data = at::from_blob(const_cast<uint8_t*>(bytes), {static_cast<int64_t>(len)}, at::TensorOptions(at::kByte));
    const auto name = std::string("image::decode_") + format;
    *out = pn_new(to_rgb8(pn_call(name.c_str(), {data, kRgb, exif})));
  });
}

PN_EXPORT Error pn_encode(Handle image, const char* format, int64_t quality, Handle* out) {
  return pn_guard([&] {
    const auto name = std::string("image::encode_") + format;
    *out = pn_new(pn_call(name.c_str(), {*image, quality}).contiguous());
  });
}
