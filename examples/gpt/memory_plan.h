// SPDX-License-Identifier: MIT
// What a training step needs of the device's memory, measured by a forward and a backward pass
// before training.
#pragma once

#include "examples/gpt/data.h"
#include "examples/gpt/model.h"

#include <cstddef>
#include <cstdint>
#include <string>

namespace lamina::gpt {

/// Bytes.
struct MemoryPlan {
  nn::AdamWMemory parameters;
  std::size_t blocks = 0;  // activations that blocks keep for their backward pass
  std::size_t head = 0;    // the same of logits and loss
  std::size_t rest = 0;    // the same of embeddings and the last norm
  std::size_t peak = 0;    // of all tensors that a step makes
  std::size_t eval = 0;    // the same of an evaluation, which has memory of its own
  std::size_t device = 0;  // all memory of the device
  std::int64_t batch = 0, layers = 0;

  std::size_t needed() const { return parameters.total() + peak + eval; }

  /// Of as long a context, when 95 % of the device's memory can be used; 0: not even one window.
  std::int64_t largest_batch() const;

  /// "weights 250 MiB, ..."
  std::string text() const;
};

/// Runs both passes, and that of an evaluation, on `batch` in memory that is given back. The
/// model's gradients are forgotten; its weights and the default generator stay as they are. Throws
/// OutOfMemory.
MemoryPlan plan_memory(Gpt& model, const nn::AdamW& optimizer, const Batch& batch);

}  // namespace lamina::gpt
