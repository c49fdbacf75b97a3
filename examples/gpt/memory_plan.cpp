// SPDX-License-Identifier: MIT
#include "examples/gpt/memory_plan.h"

#include "core/caching_allocator.h"
#include "core/storage.h"
#include "core/text.h"
#include "examples/gpt/evaluate.h"

#include <algorithm>

namespace lamina::gpt {

std::int64_t MemoryPlan::largest_batch() const {
  const auto usable = static_cast<std::int64_t>(device / 100 * 95);
  const std::int64_t left = usable - static_cast<std::int64_t>(parameters.total());
  const std::int64_t each =
      std::max<std::int64_t>(1, static_cast<std::int64_t>(peak + eval) / batch);
  return std::max<std::int64_t>(0, left / each);
}

std::string MemoryPlan::text() const {
  return cat("weights ", bytes_text(parameters.weights), ", gradients ",
             bytes_text(parameters.gradients), ", optimizer ",
             bytes_text(parameters.master + parameters.moments), ", activations ",
             bytes_text(blocks + rest), " (", bytes_text(blocks / static_cast<std::size_t>(layers)),
             " a block), logits ", bytes_text(head), "; training needs ", bytes_text(needed()),
             " of ", bytes_text(device), ", --batch ", largest_batch(), " would fit");
}

namespace {

/// Forgets the gradients and puts the default generator back.
class AsBefore {
 public:
  explicit AsBefore(const nn::AdamW& optimizer)
      : optimizer_(optimizer), generator_(default_generator()) {}

  ~AsBefore() {
    optimizer_.zero_grad();
    default_generator() = generator_;
  }

  AsBefore(const AsBefore&) = delete;
  AsBefore& operator=(const AsBefore&) = delete;

 private:
  const nn::AdamW& optimizer_;
  Generator generator_;
};

}  // namespace

MemoryPlan plan_memory(Gpt& model, const nn::AdamW& optimizer, const Batch& batch) {
  const Device device = batch.inputs.device();
  MemoryPlan plan{.parameters = optimizer.memory(),
                  .device = device_info(device).total_memory,
                  .batch = batch.inputs.dim(0),
                  .layers = model.config.layers};
  const auto memory = new_allocator(device), eval_memory = new_allocator(device);
  const AsBefore restored(optimizer);
  {
    const AllocatorScope scope(device, *memory);
    const Var loss = model.loss(batch.inputs, batch.targets);
    for (const MemoryHolder& holder : memory->holders()) {
      const bool is_block = holder.scope.starts_with("blocks");
      const bool is_head = holder.scope == "head" || holder.scope == "loss";
      (is_block ? plan.blocks : is_head ? plan.head : plan.rest) += holder.bytes;
    }
    backward(loss);
  }
  plan.peak = memory->stats().peak_live;
  {
    const AllocatorScope scope(device, *eval_memory);
    static_cast<void>(token_losses(model, batch));
  }
  plan.eval = eval_memory->stats().peak_live;
  synchronize(device);  // before the memory goes
  return plan;
}

}  // namespace lamina::gpt
