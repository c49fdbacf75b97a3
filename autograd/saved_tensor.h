// SPDX-License-Identifier: MIT
// SavedTensor: what a backward function keeps of an input whose value it reads. An op whose output
// can be made again from what it keeps anyway says so with recompute_output(); then the functions
// that read the output need not keep it.
#pragma once

#include "autograd/var.h"

#include <functional>
#include <memory>

namespace lamina {

/// Says that `make` returns the value of `output` again, with the same bits: whoever saves it as a
/// SavedTensor from now on keeps `make` instead. What `make` captures stays until the op that made
/// `output` and those that read it have run backward. Does nothing for a constant.
void recompute_output(const Var& output, std::function<Tensor()> make);

/// The value of an input, or how to make it again.
class SavedTensor {
 public:
  SavedTensor() = default;

  /// `value` is that of `input`, and kept unless recompute_output() was called for it.
  SavedTensor(const Var& input, const Tensor& value);

  /// The value. The first of its readers makes it again, and all share it until the last one's
  /// backward function has run.
  const Tensor& get() const;

 private:
  Tensor value_;  // empty when it is made again
  std::shared_ptr<RecomputedOutput> recomputed_;
};

}  // namespace lamina
