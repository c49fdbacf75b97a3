// SPDX-License-Identifier: MIT
#include "autograd/var.h"

#include "core/expect.h"

namespace lamina {
namespace {

/// Gradients of 16-bit parameters are summed over steps and micro-batches, so they are kept in f32.
DType parameter_grad_dtype(DType dtype) {
  return dtype == DType::f16 || dtype == DType::bf16 ? DType::f32 : dtype;
}

void expect_differentiable(std::string_view function, const Tensor& value) {
  expect_defined(function, "value", value);
  if (!is_float(value.dtype())) {
    throw DTypeError(cat(function, ": value has dtype ", value.dtype(),
                         ", expected a float dtype (only those have gradients)"));
  }
}

void expect_parameter(std::string_view function, const std::shared_ptr<GradState>& state) {
  if (!state || !state->is_parameter) {
    throw Error(
        cat(function, ": the value is not a parameter, expected one made by Var::parameter"));
  }
}

}  // namespace

Var Var::parameter(Tensor value) {
  expect_differentiable("parameter", value);
  Var result(std::move(value));
  result.state_ = std::make_shared<GradState>();
  result.state_->is_parameter = true;
  result.state_->shape = result.shape();
  result.state_->dtype = parameter_grad_dtype(result.dtype());
  result.state_->device = result.device();
  return result;
}

void Var::zero_grad() const {
  expect_parameter("zero_grad", state_);
  state_->has_grad = false;
}

void Var::set_value(Tensor value) {
  expect_parameter("set_value", state_);
  expect_differentiable("set_value", value);
  expect_shape("set_value", "value", value, shape(), "the shape of the parameter");
  const DType grad_dtype = parameter_grad_dtype(value.dtype());
  if (grad_dtype != state_->dtype || value.device() != state_->device) state_->grad = {};
  state_->has_grad = false;
  state_->dtype = grad_dtype;
  state_->device = value.device();
  value_ = std::move(value);
}

void Var::set_grad_buffer(Tensor buffer) const {
  expect_parameter("set_grad_buffer", state_);
  expect_shape("set_grad_buffer", "buffer", buffer, shape(), "the shape of the parameter");
  expect_dtype("set_grad_buffer", "buffer", buffer, state_->dtype, "the dtype of the gradient");
  expect_same_device("set_grad_buffer", "buffer", buffer, "the parameter", value_);
  if (!buffer.is_contiguous()) {
    throw ShapeError(cat("set_grad_buffer: buffer ", buffer.shape(),
                         " is a strided view, expected contiguous memory"));
  }
  state_->grad = std::move(buffer);
  state_->has_grad = false;
}

void Var::on_grad_ready(std::function<void(const Tensor& grad)> hook) const {
  expect_parameter("on_grad_ready", state_);
  state_->on_ready = std::move(hook);
}

}  // namespace lamina
