// Fused optimizer steps, foreach helpers and the gradient scaler's primitives.
//
// The fused kernels take lists of one device and one type; `groups` splits what the caller has, in the caller's order.
#include "shim.h"

#include <map>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_amp_foreach_non_finite_check_and_unscale.h>
#include <ATen/ops/_amp_update_scale.h>
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_lerp.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_foreach_sub.h>
#include <ATen/ops/_foreach_zero.h>
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_fused_sgd.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <c10/core/ScalarType.h>

namespace {

using List = std::vector<at::Tensor>;

std::vector<std::vector<size_t>> groups(const List& tensors) {
  std::vector<std::vector<size_t>> out;
  std::map<std::tuple<c10::DeviceType, c10::DeviceIndex, at::ScalarType>, size_t> seen;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto device = tensors[i].device();
    const auto [at, fresh] = seen.try_emplace({device.type(), device.index(), tensors[i].scalar_type()}, out.size());
    if (fresh) {
      out.emplace_back();
    }
    out[at->second].push_back(i);
  }
  return out;
}

List pick(const List& from, const std::vector<size_t>& which) {
  List out;
  if (from.empty()) {
    return out;
  }
  out.reserve(which.size());
  for (const auto i : which) {
    out.push_back(from[i]);
  }
  return out;
}

std::optional<at::Tensor> on(const std::optional<at::Tensor>& t, const at::Tensor& like) {
  return t.has_value() ? std::optional<at::Tensor>(t->to(like.device())) : std::nullopt;
}

}  // namespace

struct SgdOptions {
  double lr, momentum, dampening, weight_decay;
  bool nesterov, maximize, first_step;
};

PN_EXPORT Error pn_sgd_step(
    const Handle* params, const Handle* grads, size_t n, const Handle* momenta, size_t n_momenta,
    const SgdOptions* options, Handle grad_scale, Handle found_inf) {
  return pn_guard([&] {
    at::NoGradGuard no_grad;
    const auto p = pn_list(params, n), g = pn_list(grads, n), m = pn_list(momenta, n_momenta);
    for (const auto& group : groups(p)) {
      const auto first = p[group[0]];
      at::_fused_sgd_(
          pick(p, group), pick(g, group), pick(m, group), options->weight_decay, options->momentum, options->lr,
          options->dampening, options->nesterov, options->maximize, options->first_step,
          on(pn_optional(grad_scale), first), on(pn_optional(found_inf), first));
    }
  });
}

struct AdamOptions {
  double lr, beta1, beta2, eps, weight_decay;
  bool amsgrad, maximize, decoupled;
};

PN_EXPORT Error pn_adam_step(
    const Handle* params, const Handle* grads, const Handle* exp_avgs, const Handle* exp_avg_sqs,
    const Handle* max_exp_avg_sqs, const Handle* steps, size_t n, const AdamOptions* options, Handle grad_scale,
    Handle found_inf) {
  return pn_guard([&] {
    at::NoGradGuard no_grad;
    const auto p = pn_list(params, n), g = pn_list(grads, n), m = pn_list(exp_avgs, n), v = pn_list(exp_avg_sqs, n);
    const auto vmax = pn_list(max_exp_avg_sqs, options->amsgrad ? n : 0), t = pn_list(steps, n);
    for (const auto& group : groups(p)) {
      const auto first = p[group[0]];
      const auto scale = on(pn_optional(grad_scale), first), inf = on(pn_optional(found_inf), first);
      const auto count = pick(t, group);
      at::_foreach_add_(count, 1);
      const auto step = options->decoupled
          ? static_cast<decltype(&at::_ops::_fused_adam_::call)>(&at::_ops::_fused_adamw_::call)
          : &at::_ops::_fused_adam_::call;
      step(
          pick(p, group), pick(g, group), pick(m, group), pick(v, group), pick(vmax, group), count, options->lr,
          options->beta1, options->beta2, options->weight_decay, options->eps, options->amsgrad, options->maximize,
          scale, inf);
      // A step that the scaler refused did not happen: the count goes back.
      if (inf.has_value()) {
        at::_foreach_sub_(count, List(count.size(), *inf));
      }
    }
  });
}

PN_EXPORT Error pn_clip_grad_norm(const Handle* grads, size_t n, double max_norm, double norm_type, Handle* out) {
  return pn_guard([&] {
    at::NoGradGuard no_grad;
    const auto g = pn_list(grads, n);
    if (g.empty()) {
      *out = pn_new(at::zeros({}, at::TensorOptions(at::kFloat)));
      return;
    }
    const auto split = groups(g);
    List norms;
    for (const auto& group : split) {
      for (const auto& norm : at::_foreach_norm(pick(g, group), norm_type)) {
        norms.push_back(norm.to(g[0].device(), c10::promoteTypes(norm.scalar_type(), at::kFloat)));
      }
    }
    const auto total = at::linalg_vector_norm(at::stack(norms), norm_type);
    // Multiplying by one costs less than asking the device whether clipping is needed.
    const auto factor = at::clamp(total.add(1e-6).reciprocal().mul(max_norm), std::nullopt, 1.0);
    for (const auto& group : split) {
      at::_foreach_mul_(pick(g, group), factor.to(g[group[0]].device()));
    }
    *out = pn_new(total);
  });
}

PN_EXPORT Error pn_ema_update(const Handle* averages, const Handle* params, size_t n, double decay) {
  return pn_guard([&] {
    at::NoGradGuard no_grad;
    const auto e = pn_list(averages, n), p = pn_list(params, n);
    for (const auto& group : groups(e)) {
      const auto to = pick(e, group);
      auto from = pick(p, group);
      for (size_t i = 0; i < to.size(); ++i) {
        from[i] = from[i].to(to[i].device(), to[i].scalar_type());
      }
      if (to[0].is_floating_point()) {
        at::_foreach_lerp_(to, from, 1.0 - decay);
        continue;
      }
      // Counters (a batch norm's, say) have no average: the newest value stands.
      for (size_t i = 0; i < to.size(); ++i) {
        to[i].copy_(from[i]);
      }
    }
  });
}

PN_EXPORT Error pn_zero_grads(const Handle* params, size_t n, bool set_to_none) {
  return pn_guard([&] {
    at::NoGradGuard no_grad;
    List grads;
    for (size_t i = 0; i < n; ++i) {
      auto& grad = params[i]->mutable_grad();
      if (!grad.defined()) {
        continue;
      }
      if (set_to_none) {
        grad.reset();
      } else {
        grads.push_back(grad.detach());
      }
    }
    for (const auto& group : groups(grads)) {
      at::_foreach_zero_(pick(grads, group));
    }
  });
}

PN_EXPORT Error pn_amp_unscale(const Handle* grads, size_t n, Handle found_inf, Handle inv_scale) {
  return pn_guard([&] {
    at::NoGradGuard no_grad;
    const auto g = pn_list(grads, n);
    for (const auto& group : groups(g)) {
      const auto list = pick(g, group);
      auto found = found_inf->to(list[0].device());
      at::_amp_foreach_non_finite_check_and_unscale_(list, found, inv_scale->to(list[0].device()));
      if (!found.is_same(*found_inf)) {
        found_inf->add_(found.to(found_inf->device())).clamp_(0, 1);
      }
    }
  });
}

PN_EXPORT Error pn_amp_update(
    Handle scale, Handle growth_tracker, Handle found_inf, double growth, double backoff, int64_t interval) {
  return pn_guard([&] {
    at::NoGradGuard no_grad;
    at::_amp_update_scale_(*scale, *growth_tracker, *found_inf, growth, backoff, interval);
  });
}
