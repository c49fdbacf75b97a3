// SPDX-License-Identifier: MIT
// Var: a Tensor that can be differentiated. A constant is a Tensor and nothing else; a
// differentiable value also has a GradState, shared by all handles: its gradient and the node that
// produced it. Values of this type are made by record() (autograd/record.h) and Var::parameter()
// only. A parameter may be used, and differentiated, by one thread at a time.
#pragma once

#include "core/tensor.h"

#include <functional>
#include <memory>

namespace lamina {

struct Node;
struct RecomputedOutput;

/// The gradient side of a differentiable value. Managed by the engine; ops see it as a slot of
/// Grads.
struct GradState {
  Tensor grad;        // valid when has_grad; the buffer of a parameter stays between steps
  Tensor column_sum;  // of grad, accumulation dtype, [last dimension]; may be empty
  bool has_grad = false;
  bool wants_column_sum = false;  // the producer uses it
  bool is_parameter = false;
  Shape shape;
  DType dtype = DType::f32;  // of the gradient
  Device device;
  std::shared_ptr<Node> producer;              // null for parameters
  std::function<Tensor()> make_value;          // see recompute_output(); mostly empty
  std::weak_ptr<RecomputedOutput> recomputed;  // what those who saved the value share
  int pending_uses = 0;  // recorded nodes that read this value and have not run backward
  std::function<void(const Tensor& grad)> on_ready;
};

class Var {
 public:
  Var() = default;

  Var(Tensor value)
      : value_(std::move(value)) {}  // NOLINT(google-explicit-constructor): a constant

  /// A leaf whose gradient is kept. The gradient of a 16-bit parameter is f32.
  static Var parameter(Tensor value);

  explicit operator bool() const { return static_cast<bool>(value_); }

  const Tensor& value() const { return value_; }  // also the way to detach

  const Shape& shape() const { return value_.shape(); }

  std::int64_t dim(int i) const { return value_.dim(i); }

  int rank() const { return value_.rank(); }

  DType dtype() const { return value_.dtype(); }

  Device device() const { return value_.device(); }

  /// Whether backward() can reach this value.
  bool requires_grad() const { return state_ != nullptr; }

  /// The gradient, or an empty handle before backward(). After backward() only parameters have one.
  Tensor grad() const { return state_ && state_->has_grad ? state_->grad : Tensor(); }

  /// Forgets the gradient without touching memory: the next backward pass overwrites it.
  void zero_grad() const;

  /// Replaces the value of this handle, for example by its place in a flat buffer or by a copy on
  /// another device. For parameters; same shape, any float dtype. The gradient is forgotten.
  /// Other handles of the same parameter keep the old value.
  void set_value(Tensor value);

  /// Makes later gradients of a parameter be written to `buffer` (same shape, dtype of the
  /// gradient).
  void set_grad_buffer(Tensor buffer) const;

  /// Calls `hook` during backward() as soon as the gradient of this parameter is complete.
  void on_grad_ready(std::function<void(const Tensor& grad)> hook) const;

  const std::shared_ptr<GradState>& state() const { return state_; }

 private:
  friend class Recorder;
  Tensor value_;
  std::shared_ptr<GradState> state_;
};

}  // namespace lamina
