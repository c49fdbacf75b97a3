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

struct AdamWOptions {
  kernels::Schedule schedule;  // learning rate by step
  float beta1 = 0.9F;
  float beta2 = 0.999F;
  float eps = 1e-8F;
  float weight_decay = 0.01F;  // of parameters with two or more dimensions; the others have none
  float max_norm = 0.0F;       // of all gradients together; 0: no clipping
};

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
  /// Gradients are multiplied by `grad_scale` first: 1 / n after n accumulated backward passes.
  /// A gradient norm that is not finite leaves everything as it is and is counted as skipped.
  void step(float grad_scale = 1.0F);

  /// Takes the parameters' present values as the master weights, after they were written from
  /// outside.
  void refresh_master() const;

  /// Forgets the gradients; costs nothing on the device.
  void zero_grad() const;

  /// What the last step saw: learning rate, gradient norm, skipped steps. Waits for the device.
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
