// SPDX-License-Identifier: MIT
// Contracts: the optimizer step over flat buffers. Everything that changes from step to step is in
// a StepState in device memory, so that a step never waits for the host. Loshchilov, Hutter 2019,
// https://arxiv.org/abs/1711.05101, algorithm 2.
#pragma once

#include "core/stream.h"
#include "core/view.h"

#include <cstdint>
#include <string_view>

namespace lamina::kernels {

/// Lives in device memory; read back by the host only when it wants to print.
struct StepState {
  std::int64_t step = 0;     // optimizer steps begun
  std::int64_t skipped = 0;  // steps without an update because the gradient norm was not finite
  std::int64_t updates = 0;  // steps with an update: the exponent of Adam's bias corrections
  float lr = 0.0F;
  float grad_norm = 0.0F;          // before clipping
  float grad_scale = 1.0F;         // what gradients are multiplied by: the clip factor, 0 = skip
  float bias_correction_1 = 1.0F;  // 1 - beta1^updates
  float bias_correction_2 = 1.0F;
  float loss_scale = 1.0F;            // what the loss of the next step is multiplied by
  std::int32_t updates_in_a_row = 0;  // since loss_scale has changed, or a step was skipped
  std::int32_t skipped_in_a_row = 0;  // up to now, where no smaller loss_scale was left to try
};

// No byte without a value: checkpoints of equal runs are equal.
static_assert(sizeof(StepState) == 3 * sizeof(std::int64_t) + 8 * sizeof(float));

enum class ScheduleKind : std::uint8_t { constant, linear, cosine };

/// Learning rate by step: linear from 0 to peak over `warmup` steps (step 0 gives peak / warmup),
/// then constant, or linear or cosine from peak down to `floor` at step `total`, and `floor` after
/// that. All four numbers are finite and at least 0.
struct Schedule {
  ScheduleKind kind = ScheduleKind::constant;
  float peak = 1e-3F;
  float floor = 0.0F;
  std::int64_t warmup = 0;  // steps; may be more than total
  std::int64_t total = 0;   // steps; unused by constant
};

/// How StepState::loss_scale changes: a step whose gradient norm is not finite multiplies it by
/// `backoff`, down to 1; `interval` steps without one in a row multiply it by `growth`, as long as
/// that is finite. By default it stays as it is. The algorithm is that of PyTorch's GradScaler,
/// https://docs.pytorch.org/docs/stable/amp.html, but for the least scale.
struct LossScale {
  float initial =
      1.0F;  // powers of two change no bit of a gradient that neither over- nor underflows
  float growth = 1.0F;
  float backoff = 1.0F;
  std::int32_t interval = 2000;  // steps
};

/// Gradient norm, clip factor, learning rate, bias corrections and loss scale, in `state`. The
/// gradients are those of the loss times loss_scale, which is taken out with the other factors:
/// grad_norm = scale / loss_scale * l2 norm of all gradients;
/// grad_scale = scale / loss_scale * min(1, max_norm / grad_norm), 0 when the norm is not finite.
/// Then loss_scale becomes that of the next step. Summed in a fixed order.
struct BeginStep {
  static constexpr std::string_view kName = "begin_step";
  Flat grads;      // [n], f32 (f64 for f64), in
  Flat state;      // u8, one StepState, in and out
  float scale;     // 1 / number of accumulated micro-steps
  float max_norm;  // <= 0: no clipping
  float beta1, beta2;
  Schedule schedule;
  LossScale loss_scale = {};  // `initial` is not read: that is for the first StepState
  Flat workspace;             // u8, workspace_bytes() long

  Cost cost() const { return {.bytes = bytes_of(grads), .flops = 2 * grads.size}; }
};

/// With g = grad_scale * grad: m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2;
/// master = master * (1 - lr * weight_decay) - lr * (m / c1) / (sqrt(v / c2) + eps);
/// weights = master rounded. Nothing changes when grad_scale is 0. Only the first `decayed`
/// elements have weight decay.
struct AdamW {
  static constexpr std::string_view kName = "adamw";
  Flat weights;  // [n], in and out: the compute dtype
  Flat master;   // [n], f32, in and out; empty when weights are f32 or f64 themselves
  Flat grads;    // [n], f32 (f64 for f64), in
  Flat m, v;     // [n], f32 (f64 for f64), in and out
  Flat state;    // u8, one StepState, in
  std::int64_t decayed;
  float beta1, beta2, eps, weight_decay;

  Cost cost() const {
    return {.bytes = 2 * bytes_of(weights) + 2 * bytes_of(master) + bytes_of(grads) +
                     2 * bytes_of(m) + 2 * bytes_of(v) - (master ? bytes_of(weights) : 0),
            .flops = 14 * grads.size};
  }
};

void run(const BeginStep& args, CpuStream stream);
void run(const BeginStep& args, CudaStream stream);
std::int64_t workspace_bytes(const BeginStep& args, CpuStream stream);
std::int64_t workspace_bytes(const BeginStep& args, CudaStream stream);
void run(const AdamW& args, CpuStream stream);
void run(const AdamW& args, CudaStream stream);

}  // namespace lamina::kernels
