// SPDX-License-Identifier: MIT
#include "core/kernels/adamw.h"

#include "cpu_kernels/sums.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

namespace lamina::kernels {
namespace {

double learning_rate(const Schedule& schedule, std::int64_t step) {
  const double peak = schedule.peak, floor = schedule.floor;
  if (step < schedule.warmup) {
    return peak * static_cast<double>(step + 1) / static_cast<double>(schedule.warmup);
  }
  if (schedule.kind == ScheduleKind::constant) return peak;
  if (step >= schedule.total) return floor;
  const double done = static_cast<double>(step - schedule.warmup) /
                      static_cast<double>(schedule.total - schedule.warmup);
  const double left = schedule.kind == ScheduleKind::linear
                          ? 1.0 - done
                          : 0.5 * (1.0 + std::cos(std::numbers::pi * done));
  return floor + (peak - floor) * left;
}

/// For the next step, after grad_scale is known.
void update_loss_scale(const LossScale& options, StepState& state) {
  if (state.grad_scale == 0.0F) {
    const float smaller = std::max(state.loss_scale * options.backoff, 1.0F);
    state.skipped_in_a_row = smaller < state.loss_scale ? 0 : state.skipped_in_a_row + 1;
    state.loss_scale = smaller;
    state.updates_in_a_row = 0;
    return;
  }
  state.skipped_in_a_row = 0;
  if (++state.updates_in_a_row < options.interval) return;
  const float larger = state.loss_scale * options.growth;
  if (std::isfinite(larger)) state.loss_scale = larger;
  state.updates_in_a_row = 0;
}

/// l2 norm; the squares of a chunk are summed in T, the chunks in double.
template <class T>
double norm_of(const Flat& grads, double* partials) {
  const T* const grad = grads.as<T>();
  cpu::parallel_segments(1, grads.size, [&](std::int64_t, std::int64_t begin, std::int64_t end) {
    const T* const from = grad + begin;
    partials[begin / cpu::kChunkWork] = static_cast<double>(
        cpu::lane_sum<T>(end - begin, [&](std::int64_t i) { return from[i] * from[i]; }));
  });
  const std::int64_t count = cpu::divide_up(grads.size, cpu::kChunkWork);
  return std::sqrt(cpu::lane_sum<double>(count, [&](std::int64_t i) { return partials[i]; }));
}

/// How one run of elements is updated.
template <class T>
struct Update {
  T grad_scale, beta1, beta2, eps, decay;
  T rate;                // lr / c1
  T inverse_correction;  // 1 / c2

  void operator()(T* weights, const T* grads, T* m, T* v, std::int64_t count) const {
    const Update update = *this;
#pragma omp simd
    for (std::int64_t i = 0; i < count; ++i) {
      const T grad = update.grad_scale * grads[i];
      m[i] = update.beta1 * m[i] + (T{1} - update.beta1) * grad;
      v[i] = update.beta2 * v[i] + (T{1} - update.beta2) * grad * grad;
      weights[i] = weights[i] * update.decay -
                   update.rate * m[i] / (std::sqrt(v[i] * update.inverse_correction) + update.eps);
    }
  }
};

template <class T>
void step(const AdamW& args, const StepState& state, const Flat& master) {
  T* const weights = master.as<T>();
  const T* const grads = args.grads.as<T>();
  T *const m = args.m.as<T>(), *const v = args.v.as<T>();
  const T lr = static_cast<T>(state.lr);
  Update<T> update{.grad_scale = static_cast<T>(state.grad_scale),
                   .beta1 = static_cast<T>(args.beta1),
                   .beta2 = static_cast<T>(args.beta2),
                   .eps = static_cast<T>(args.eps),
                   .decay = T{1},
                   .rate = lr / static_cast<T>(state.bias_correction_1),
                   .inverse_correction = T{1} / static_cast<T>(state.bias_correction_2)};
  const auto run_over = [&](std::int64_t first, std::int64_t last) {
    cpu::parallel_segments(1, last - first,
                           [&](std::int64_t, std::int64_t begin, std::int64_t end) {
                             const std::int64_t at = first + begin;
                             update(weights + at, grads + at, m + at, v + at, end - begin);
                           });
  };
  const std::int64_t decayed = std::clamp<std::int64_t>(args.decayed, 0, args.grads.size);
  run_over(decayed, args.grads.size);
  update.decay = T{1} - lr * static_cast<T>(args.weight_decay);
  run_over(0, decayed);
}

}  // namespace

std::int64_t workspace_bytes(const BeginStep& args, CpuStream) {
  return cpu::divide_up(args.grads.size, cpu::kChunkWork) *
         static_cast<std::int64_t>(sizeof(double));
}

void run(const BeginStep& args, CpuStream) {
  StepState state;
  std::memcpy(&state, args.state.data, sizeof(state));
  const double scale = static_cast<double>(args.scale) / static_cast<double>(state.loss_scale);
  const double norm = dispatch_float(args.grads.dtype, args.kName, [&]<class T>() {
    return scale * norm_of<T>(args.grads, args.workspace.as<double>());
  });
  state.grad_norm = static_cast<float>(norm);
  state.lr = static_cast<float>(learning_rate(args.schedule, state.step));
  ++state.step;
  if (std::isfinite(state.grad_norm)) {
    const double clip = args.max_norm > 0.0F && norm > args.max_norm
                            ? static_cast<double>(args.max_norm) / norm
                            : 1.0;
    state.grad_scale = static_cast<float>(scale * clip);
    ++state.updates;
    const auto updates = static_cast<double>(state.updates);
    state.bias_correction_1 = static_cast<float>(1.0 - std::pow(double{args.beta1}, updates));
    state.bias_correction_2 = static_cast<float>(1.0 - std::pow(double{args.beta2}, updates));
  } else {
    state.grad_scale = 0.0F;
    ++state.skipped;
  }
  update_loss_scale(args.loss_scale, state);
  std::memcpy(args.state.data, &state, sizeof(state));
}

void run(const AdamW& args, CpuStream) {
  StepState state;
  std::memcpy(&state, args.state.data, sizeof(state));
  if (state.grad_scale == 0.0F) return;
  const Flat master = args.master ? args.master : args.weights;
  dispatch_float(master.dtype, args.kName, [&]<class T>() { step<T>(args, state, master); });
  if (!args.master) return;
  dispatch_all(args.weights.dtype, [&]<class W>() {
    if constexpr (!std::is_integral_v<W>) {
      const auto* const from = args.master.as<float>();
      auto* const to = args.weights.as<W>();
      for (std::int64_t i = 0; i < args.weights.size; ++i)
        to[i] = static_cast<W>(from[i]);
    }
  });
}

}  // namespace lamina::kernels
