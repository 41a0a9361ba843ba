// Gradients of all ranks added up, in buckets that are sent as soon as backward has filled them, while it goes on: as torch's
// DistributedDataParallel does (Li et al. 2020, "PyTorch Distributed: Experiences on Accelerating Data Parallel Training").
//
// What is sent is the sum: a rank's share of the batch is in its loss. Buckets are sent in one order on every rank, so one
// that is full waits for those before it. Behind its gradients a bucket has a number for each: how many ranks had one. So a
// parameter that no rank used keeps no gradient, and one that only others used gets theirs.
#include "distributed.h"

#include <mutex>

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

class Reducer {
 public:
  Reducer(std::vector<at::Tensor> params, const Group& group, size_t first_bytes, size_t bucket_bytes)
      : params_(std::move(params)), backend_(group.backend), places_(params_.size()), ready_(params_.size()) {
    at::NoGradGuard no_grad;
    // Backward reaches the last parameters first, by and large.
    size_t room = first_bytes;
    for (size_t i = params_.size(); i-- > 0;) {
      const auto& param = params_[i];
      const auto bytes = static_cast<size_t>(param.numel()) * param.element_size();
      const bool fits = !buckets_.empty() && buckets_.back().bytes + bytes <= room &&
          params_[buckets_.back().members[0]].options().type_equal(param.options());
      if (!fits) {
        room = buckets_.empty() ? first_bytes : bucket_bytes;
        buckets_.emplace_back();
      }
      auto& bucket = buckets_.back();
      places_[i] = {buckets_.size() - 1, bucket.length, bucket.members.size()};
      bucket.members.push_back(i);
      bucket.length += param.numel();
      bucket.bytes += bytes;
    }
    for (auto& bucket : buckets_) {
      const auto length = bucket.length + static_cast<int64_t>(bucket.members.size());
      bucket.flat = at::zeros({length}, params_[bucket.members[0]].options().requires_grad(false));
    }
  }

  // From now on the gradient of a parameter belongs to its bucket once backward has added to it.
  void arm() {
    std::lock_guard<std::mutex> lock(mutex_);
    armed_ = true;
    next_ = 0;
    std::fill(ready_.begin(), ready_.end(), false);
    for (auto& bucket : buckets_) {
      bucket.waiting = bucket.members.size();
      bucket.work.reset();
    }
  }

  void mark(size_t i, const at::Tensor& grad) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (armed_) {
      fill(i, grad);
    }
  }

  // Sends what is left, such as what batches before the last one have added to parameters that it does not use, waits for all, and gives the parameters their gradients. Without `use`, those of this rank are left as
  // they are: what was sent is thrown away.
  void finish(bool use) {
    std::lock_guard<std::mutex> lock(mutex_);
    at::NoGradGuard no_grad;
    armed_ = false;
    for (size_t i = 0; i < params_.size(); ++i) {
      fill(i, params_[i].grad());
    }
    while (next_ < buckets_.size()) {
      send(buckets_[next_++]);
    }
    for (auto& bucket : buckets_) {
      bucket.work->wait();
      bucket.work.reset();
      if (use) {
        take(bucket);
      }
    }
  }

 private:
  struct Bucket {
    std::vector<size_t> members;
    int64_t length = 0;
    size_t bytes = 0;
    at::Tensor flat;
    size_t waiting = 0;
    c10::intrusive_ptr<c10d::Work> work;
  };
  struct Place {
    size_t bucket;
    int64_t offset;
    size_t member;
  };

  void fill(size_t i, const at::Tensor& grad) {
    if (ready_[i] || !grad.defined()) {
      return;
    }
    at::NoGradGuard no_grad;
    ready_[i] = true;
    slice_of(i).copy_(grad.reshape({-1}));
    --buckets_[places_[i].bucket].waiting;
    while (next_ < buckets_.size() && buckets_[next_].waiting == 0) {
      send(buckets_[next_++]);
    }
  }

  at::Tensor slice_of(size_t i) {
    return buckets_[places_[i].bucket].flat.narrow(0, places_[i].offset, params_[i].numel());
  }

  void send(Bucket& bucket) {
    auto counts = bucket.flat.narrow(0, bucket.length, static_cast<int64_t>(bucket.members.size()));
    counts.fill_(1);
    if (bucket.waiting > 0) {
      for (const auto i : bucket.members) {
        if (!ready_[i]) {
          slice_of(i).zero_();
          counts.select(0, static_cast<int64_t>(places_[i].member)).zero_();
        }
      }
    }
    std::vector<at::Tensor> tensors{bucket.flat};
    bucket.work = backend_->allreduce(tensors);
  }

  void take(Bucket& bucket) {
    // Only where this rank lacks a gradient does it matter whether others have one: reading that waits for the device.
    at::Tensor counts;
    if (bucket.waiting > 0) {
      counts = bucket.flat.narrow(0, bucket.length, static_cast<int64_t>(bucket.members.size())).to(at::kCPU, at::kFloat);
    }
    for (const auto i : bucket.members) {
      if (!ready_[i] && counts[static_cast<int64_t>(places_[i].member)].item<float>() == 0) {
        continue;
      }
      auto& param = params_[i];
      const auto slice = slice_of(i).view(param.sizes());
      auto& grad = param.mutable_grad();
      if (grad.defined()) {
        grad.copy_(slice);
      } else {
        grad = at::empty_like(param).copy_(slice);
      }
    }
  }

  std::vector<at::Tensor> params_;
  c10::intrusive_ptr<c10d::Backend> backend_;
  std::vector<Bucket> buckets_;
  std::vector<Place> places_;
  std::vector<bool> ready_;
  bool armed_ = false;
  size_t next_ = 0;
  std::mutex mutex_;
};

namespace {

// Stays with its parameter, and does nothing once the reducer is gone.
class Hook : public torch::autograd::PostAccumulateGradHook {
 public:
  Hook(std::weak_ptr<Reducer> reducer, size_t index) : reducer_(std::move(reducer)), index_(index) {}

  void operator()(const torch::autograd::Variable& param) override {
    if (const auto reducer = reducer_.lock()) {
      reducer->mark(index_, param.grad());
    }
  }

 private:
  std::weak_ptr<Reducer> reducer_;
  size_t index_;
};

} // namespace

struct Reduction {
  std::shared_ptr<Reducer> reducer;
};

PN_EXPORT Error pn_reducer_new(
    const Handle* params,
    size_t n,
    const Group* group,
    size_t first_bytes,
    size_t bucket_bytes,
    Reduction** out) {
  return pn_guard([&] {
    auto list = pn_list(params, n);
    auto reducer = std::make_shared<Reducer>(list, *group, first_bytes, bucket_bytes);
    for (size_t i = 0; i < list.size(); ++i) {
      torch::autograd::impl::set_post_acc_grad_hooks(list[i], std::make_unique<Hook>(reducer, i));
    }
    *out = new Reduction{std::move(reducer)};
  });
}

PN_EXPORT void pn_reducer_delete(Reduction* reduction) {
  delete reduction;
}

PN_EXPORT Error pn_reducer_arm(const Reduction* reduction) {
  return pn_guard([&] { reduction->reducer->arm(); });
}

PN_EXPORT Error pn_reducer_finish(const Reduction* reduction, bool use) {
  return pn_guard([&] { reduction->reducer->finish(use); });
}
