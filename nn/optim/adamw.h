// SPDX-License-Identifier: MIT
// AdamW over flat buffers, with global-norm clipping and the learning-rate schedule on the device:
// a step is two kernels whatever the number of parameters, and the host never waits.
// Loshchilov, Hutter 2019, https://arxiv.org/abs/1711.05101.
#pragma once

#include "autograd/var.h"
#include "core/kernels/adamw.h"
#include "nn/safetensors.h"

#include <vector>

namespace lamina::nn {

/// Betas are in [0, 1); eps, weight_decay and max_norm are at least 0, and only the last may be
/// infinite.
struct AdamWOptions {
  kernels::Schedule schedule;  // learning rate by step
  float beta1 = 0.9F;
  float beta2 = 0.999F;
  float eps = 1e-8F;
  float weight_decay = 0.01F;  // of parameters with two or more dimensions; the others have none
  float max_norm = 0.0F;       // of all gradients together; 0: no clipping
  kernels::LossScale loss_scale = {};  // dynamic_loss_scale() for f16
};

/// Keeps gradients in f16 where its numbers are, 6e-8 to 65504, with the constants of PyTorch's
/// GradScaler. The first steps are skipped while the scale comes down to what the model can bear.
/// Goes with backward(loss, optimizer.loss_scale()).
constexpr kernels::LossScale dynamic_loss_scale() {
  return {.initial = 65536.0F, .growth = 2.0F, .backoff = 0.5F, .interval = 2000};
}

/// Bytes.
struct AdamWMemory {
  std::size_t weights = 0, master = 0, gradients = 0, moments = 0;

  std::size_t total() const { return weights + master + gradients + moments; }
};

class AdamW {
 public:
  /// Moves the parameters (all of one dtype on one device) and their gradients into flat buffers:
  /// the decayed ones first, each tensor aligned to 256 bytes. Keeps f32 master weights for 16-bit
  /// parameters: load a checkpoint before making the optimizer, or call refresh_master(). Throws
  /// Error for an empty list, a value that is not a parameter, one listed twice, or options out of
  /// range.
  AdamW(const std::vector<Var*>& parameters, const AdamWOptions& options);

  /// One update from the gradients present; parameters without a gradient count as zero gradient.
  /// Gradients are multiplied by `grad_scale` first: 1 / n after n accumulated backward passes; and
  /// divided by the loss scale, in the same multiplication, so that norm and clipping see none.
  /// A gradient norm that is not finite leaves everything as it is and is counted as skipped; the
  /// loss scale alone changes.
  void step(float grad_scale = 1.0F);

  /// The scale of this step's loss, f32, [], in the optimizer's memory on the device: the gradient
  /// to start from, as in backward(loss, optimizer.loss_scale()) of every micro-step. Costs
  /// nothing; nobody waits for it. Where the options scale, gradients that start from another one
  /// come out wrong; where they do not it is 1.
  Tensor loss_scale() const;

  /// Takes the parameters' present values as the master weights, after they were written from
  /// outside.
  void refresh_master() const;

  /// Forgets the gradients; costs nothing on the device.
  void zero_grad() const;

  /// What the last step saw: learning rate, gradient norm, skipped steps; and the loss scale of the
  /// next one. Waits for the device.
  kernels::StepState state() const;

  /// What steps change beside the parameters: moments "m" and "v", "state" and, of 16-bit
  /// parameters, "master"; views. With the parameters, copies of them are all that it takes to go
  /// on from here, in an optimizer of equal parameters and options.
  NamedTensors tensors() const;

  const AdamWOptions& options() const { return options_; }

  AdamWMemory memory() const;

 private:
  std::vector<Var> parameters_;
  AdamWOptions options_;
  std::int64_t decayed_ = 0;  // elements with weight decay, at the front of the buffers
  Tensor weights_, master_, grads_, m_, v_, state_;
};

}  // namespace lamina::nn
