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
  std::int32_t skipped_in_a_row = 0;  // up to now
};

// No byte without a value: checkpoints of equal runs are equal.
static_assert(sizeof(StepState) == 3 * sizeof(std::int64_t) + 6 * sizeof(float));

enum class ScheduleKind : std::uint8_t { constant, linear, cosine };

/// Learning rate by step: linear from 0 to peak over `warmup` steps (step 0 gives peak / warmup),
/// then constant, or linear or cosine from peak down to `floor` at step `total`, and `floor` after
/// that.
struct Schedule {
  ScheduleKind kind = ScheduleKind::constant;
  float peak = 1e-3F;
  float floor = 0.0F;
  std::int64_t warmup = 0;  // steps
  std::int64_t total = 0;   // steps; unused by constant
};

/// Gradient norm, clip factor, learning rate and bias corrections of this step, in `state`.
/// grad_norm = scale * l2 norm of all gradients; grad_scale = scale * min(1, max_norm / grad_norm),
/// 0 when the norm is not finite. Summed in a fixed order.
struct BeginStep {
  static constexpr std::string_view kName = "begin_step";
  Flat grads;      // [n], f32 (f64 for f64), in
  Flat state;      // u8, one StepState, in and out
  float scale;     // 1 / number of accumulated micro-steps
  float max_norm;  // <= 0: no clipping
  float beta1, beta2;
  Schedule schedule;
  Flat workspace;  // u8, workspace_bytes() long

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
