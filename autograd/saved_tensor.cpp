// SPDX-License-Identifier: MIT
#include "autograd/saved_tensor.h"

#include "core/profile_scope.h"

#include <string_view>
#include <utility>

namespace lamina {

/// Owned by those who saved the output.
struct RecomputedOutput {
  std::function<Tensor()> make;
  Tensor value;  // since the first of them asked for it
};

void recompute_output(const Var& output, std::function<Tensor()> make) {
  if (!output.requires_grad()) return;
  output.state()->make_value = [make = std::move(make), scope = current_scope()] {
    const ProfileScope layer(scope);  // not the one that reads the output
    return make();
  };
}

SavedTensor::SavedTensor(const Var& input, const Tensor& value) {
  const auto& state = input.state();
  if (!state || !state->make_value) {
    value_ = value;
    return;
  }
  recomputed_ = state->recomputed.lock();
  if (recomputed_) return;
  recomputed_ = std::make_shared<RecomputedOutput>(RecomputedOutput{state->make_value, {}});
  state->recomputed = recomputed_;
}

const Tensor& SavedTensor::get() const {
  if (!recomputed_) return value_;
  if (!recomputed_->value) recomputed_->value = recomputed_->make();
  return recomputed_->value;
}

}  // namespace lamina
