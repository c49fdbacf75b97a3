// SPDX-License-Identifier: MIT
// Looks at what ops make, and finds the one behind a NaN or an Inf.
#pragma once

#include "autograd/var.h"
#include "core/error.h"

#include <span>
#include <string_view>

namespace lamina {

/// Told about every op that a thread passes to record() while WatchOps lives: all but
/// cached_attention, which has no gradient. `scope` is the layer's path, "" outside of layers. It
/// may throw: the op throws then.
class OpWatch {
 public:
  virtual ~OpWatch() = default;

  /// What an op was given and what it made. cross_entropy(Var&&) may have written the gradient over
  /// the logits that it was given.
  virtual void forward(std::string_view op, std::string_view scope, std::span<const Var> inputs,
                       std::span<const Tensor> outputs) = 0;

  /// The gradients of an op's inputs after its backward function; an empty handle where there is
  /// none. A parameter's has what was added before, too.
  virtual void backward(std::string_view op, std::string_view scope,
                        std::span<const Tensor> gradients) = 0;
};

/// Watches may be nested: the outer one is told first.
class WatchOps {
 public:
  explicit WatchOps(OpWatch& watch);
  ~WatchOps();
  WatchOps(const WatchOps&) = delete;
  WatchOps& operator=(const WatchOps&) = delete;
};

/// What FindNotFinite throws: the op, its layer, and where the value is.
struct NotFiniteError : Error {
  using Error::Error;
};

/// Throws NotFiniteError at the first op that makes a NaN or an Inf, or is given one as a constant
/// or a parameter. Copies all that ops make to the host: for finding a fault, not for training.
class FindNotFinite final : public OpWatch {
 public:
  void forward(std::string_view op, std::string_view scope, std::span<const Var> inputs,
               std::span<const Tensor> outputs) override;
  void backward(std::string_view op, std::string_view scope,
                std::span<const Tensor> gradients) override;
};

/// For the engine: tells all watches of this thread.
void tell_forward(std::string_view op, std::span<const Var> inputs,
                  std::span<const Tensor> outputs);
void tell_backward(std::string_view op, std::string_view scope,
                   std::span<const std::shared_ptr<GradState>> inputs);

}  // namespace lamina
