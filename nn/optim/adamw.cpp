// SPDX-License-Identifier: MIT
#include "nn/optim/adamw.h"

#include "core/expect.h"
#include "core/launch.h"
#include "core/profile_scope.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <set>
#include <string_view>

namespace lamina::nn {

namespace {

// 256 bytes of the narrowest dtype: every kind of buffer can use the same element offsets.
constexpr std::int64_t kAlignment = 128;

std::int64_t aligned(std::int64_t elements) {
  return (elements + kAlignment - 1) / kAlignment * kAlignment;
}

/// Throws Error when an option is out of range; NaN is.
void expect_options(const AdamWOptions& options) {
  const auto is_decay_rate = [](float beta) { return beta >= 0.0F && beta < 1.0F; };
  const auto is_amount = [](float value) { return value >= 0.0F && std::isfinite(value); };
  if (!is_decay_rate(options.beta1) || !is_decay_rate(options.beta2) || !is_amount(options.eps)) {
    throw Error(cat("adamw: beta1 ", options.beta1, ", beta2 ", options.beta2, ", eps ",
                    options.eps, ", expected betas in [0, 1) and a finite eps of at least 0"));
  }
  if (!is_amount(options.weight_decay)) {
    throw Error(cat("adamw: weight_decay is ", options.weight_decay,
                    ", expected 0 or a positive number (it makes weights smaller)"));
  }
  if (!(options.max_norm >= 0.0F)) {
    throw Error(cat("adamw: max_norm is ", options.max_norm,
                    ", expected 0 (no clipping) or a positive number"));
  }
  const kernels::Schedule& schedule = options.schedule;
  if (!is_amount(schedule.peak) || !is_amount(schedule.floor) || schedule.warmup < 0 ||
      schedule.total < 0) {
    throw Error(cat("adamw: schedule has peak ", schedule.peak, ", floor ", schedule.floor,
                    ", warmup ", schedule.warmup, ", total ", schedule.total,
                    ", expected 0 or a positive number for each"));
  }
  const kernels::LossScale& scale = options.loss_scale;
  if (!(scale.initial >= 1.0F && std::isfinite(scale.initial) && scale.growth >= 1.0F &&
        scale.backoff > 0.0F && scale.backoff <= 1.0F && scale.interval >= 1)) {
    throw Error(cat("adamw: loss_scale has initial ", scale.initial, ", growth ", scale.growth,
                    ", backoff ", scale.backoff, ", interval ", scale.interval,
                    ", expected initial and growth of at least 1, backoff in (0, 1] and interval "
                    "of at least 1"));
  }
}

}  // namespace

AdamW::AdamW(const std::vector<Var*>& parameters, const AdamWOptions& options) : options_(options) {
  if (parameters.empty()) throw Error("adamw: no parameters, expected at least one");
  expect_options(options);
  const Tensor& first = parameters.front()->value();
  std::set<const GradState*> seen;
  std::int64_t total = 0;
  for (const Var* var : parameters) {
    if (!var->state() || !var->state()->is_parameter) {
      throw Error(
          cat("adamw: a value of shape ", var->shape(), " is not a parameter, expected one"));
    }
    if (!seen.insert(var->state().get()).second) {
      throw Error(
          cat("adamw: a parameter of shape ", var->shape(), " is listed twice, expected once"));
    }
    expect_same_device("adamw", "a parameter", var->value(), "the first one", first);
    expect_dtype("adamw", "a parameter", var->value(), first.dtype(), "the dtype of the first one");
    total += aligned(var->value().elements());
  }

  const Device device = first.device();
  const DType sums = accumulation_dtype(first.dtype());
  const auto buffer = [&](std::string_view scope, DType dtype) {
    const ProfileScope named(scope);  // for the tables of memory
    return zeros({total}, dtype, device);
  };
  weights_ = buffer("weights", first.dtype());
  grads_ = buffer("gradients", sums);
  m_ = buffer("optimizer", sums);
  v_ = buffer("optimizer", sums);

  std::vector<Var*> order(parameters);
  const auto is_decayed = [](const Var* var) { return var->rank() >= 2; };
  const auto split = std::stable_partition(order.begin(), order.end(), is_decayed);
  std::int64_t offset = 0;
  for (auto it = order.begin(); it != order.end(); ++it) {
    if (it == split) decayed_ = offset;
    Var& var = **it;
    const Shape shape = var.shape();
    const std::int64_t end = offset + shape.elements();
    const Tensor place = weights_.slice(0, offset, end).reshape(shape);
    place.copy_from(var.value());
    var.set_value(place);
    var.set_grad_buffer(grads_.slice(0, offset, end).reshape(shape));
    parameters_.push_back(var);
    offset += aligned(shape.elements());
  }
  if (split == order.end()) decayed_ = total;
  const ProfileScope named("optimizer");
  if (sums != first.dtype()) master_ = weights_.to(sums);

  const kernels::StepState initial{.loss_scale = options.loss_scale.initial};
  std::vector<std::uint8_t> bytes(sizeof initial);
  std::memcpy(bytes.data(), &initial, sizeof initial);
  state_ = from_vector(bytes, {static_cast<std::int64_t>(bytes.size())}, device);
}

void AdamW::step(float grad_scale) {
  const ProfileScope scope("optimizer");
  const Stream stream = stream_of(weights_);
  for (const Var& var : parameters_) {
    if (!var.state()->has_grad) var.state()->grad.fill(0.0);  // nothing wrote to its place
  }
  kernels::BeginStep begin{.grads = flat(grads_),
                           .state = flat(state_),
                           .scale = grad_scale,
                           .max_norm = options_.max_norm,
                           .beta1 = options_.beta1,
                           .beta2 = options_.beta2,
                           .schedule = options_.schedule,
                           .loss_scale = options_.loss_scale,
                           .workspace = {}};
  const Tensor workspace = empty({workspace_bytes_of(stream, begin)}, DType::u8, weights_.device());
  begin.workspace = flat(workspace);
  launch(stream, begin);
  launch(stream, kernels::AdamW{.weights = flat(weights_),
                                .master = flat(master_),
                                .grads = flat(grads_),
                                .m = flat(m_),
                                .v = flat(v_),
                                .state = flat(state_),
                                .decayed = decayed_,
                                .beta1 = options_.beta1,
                                .beta2 = options_.beta2,
                                .eps = options_.eps,
                                .weight_decay = options_.weight_decay});
}

Tensor AdamW::loss_scale() const {
  constexpr std::size_t kOffset = offsetof(kernels::StepState, loss_scale);
  static_assert(kOffset % sizeof(float) == 0);
  return {state_.storage(), kOffset / sizeof(float), {}, {}, DType::f32};
}

void AdamW::refresh_master() const {
  if (master_) master_.copy_from(weights_);
}

void AdamW::zero_grad() const {
  for (const Var& var : parameters_)
    var.zero_grad();
}

kernels::StepState AdamW::state() const {
  const Tensor host = state_.to(kCpu);
  kernels::StepState state;
  std::memcpy(&state, host.data(), sizeof state);
  return state;
}

NamedTensors AdamW::tensors() const {
  NamedTensors tensors = {{"m", m_}, {"v", v_}, {"state", state_}};
  if (master_) tensors.emplace_back("master", master_);
  return tensors;
}

AdamWMemory AdamW::memory() const {
  return {.weights = weights_.bytes(),
          .master = master_ ? master_.bytes() : 0,
          .gradients = grads_.bytes(),
          .moments = m_.bytes() + v_.bytes()};
}

}  // namespace lamina::nn
