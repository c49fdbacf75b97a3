// SPDX-License-Identifier: MIT
#include "autograd/ops/support.h"

#include "core/kernels/elementwise.h"

#include <cmath>

namespace lamina::ops {

void expect_operand(std::string_view op, std::string_view name, const Tensor& tensor) {
  expect_defined(op, name, tensor);
  expect_float(op, name, tensor);
}

void expect_alike(std::string_view op, std::string_view name, const Tensor& tensor,
                  std::string_view other_name, const Tensor& other) {
  expect_defined(op, name, tensor);
  expect_same_device(op, name, tensor, other_name, other);
  expect_dtype(op, name, tensor, other.dtype(), cat("the dtype of ", other_name));
}

void expect_norm_parameter(std::string_view op, std::string_view name, const Tensor& parameter,
                           const Tensor& x) {
  if (!parameter) return;
  expect_shape(op, name, parameter, {x.dim(-1)}, cat("the last dimension of x ", x.shape()));
  expect_same_device(op, name, parameter, "x", x);
  const bool fits = parameter.dtype() == x.dtype() ||
                    (parameter.dtype() == DType::f32 && x.dtype() != DType::f64);
  if (!fits) {
    throw DTypeError(cat(op, ": ", name, " has dtype ", parameter.dtype(), ", expected ", x.dtype(),
                         x.dtype() == DType::f16 || x.dtype() == DType::bf16 ? " or f32" : "",
                         " (the dtype of the result)"));
  }
}

void expect_eps(std::string_view op, double eps) {
  if (!(eps >= 0.0) || !std::isfinite(eps)) {
    throw Error(cat(op, ": eps is ", eps, ", expected 0 or a positive number"));
  }
}

Tensor row_strided(const Tensor& tensor) {
  if (!tensor || tensor.is_contiguous()) return tensor;
  const Strides& strides = tensor.strides();
  const auto last = static_cast<std::size_t>(tensor.rank() - 1);
  bool collapses = strides[last] == 1 || tensor.dim(-1) == 1;
  std::int64_t expected = 0;  // stride of the next dimension outwards; 0 before the first one
  for (std::size_t i = last; i-- > 0;) {
    const std::int64_t extent = tensor.dim(static_cast<int>(i));
    if (extent == 1) continue;
    collapses =
        collapses && (expected == 0 ? strides[i] >= tensor.dim(-1) : strides[i] == expected);
    expected = strides[i] * extent;
  }
  return collapses ? tensor : tensor.contiguous();
}

Tensor activated(const Tensor& x, kernels::ActivationKind kind) {
  const Tensor y = empty_like(x);
  launch(stream_of(x), kernels::Activation{.x = rows(x), .y = rows(y), .kind = kind});
  return y;
}

TypedSlot::TypedSlot(Grads& grads, int i, DType dtype) : slot_(grads.slot(i)) {
  const Tensor& dst = slot_.dst;
  if (dst && dst.dtype() != dtype) buffer_ = empty(dst.shape(), dtype, dst.device());
}

void TypedSlot::hand_over() const {
  if (!buffer_) return;
  launch(stream_of(buffer_),
         kernels::Scale{
             .x = rows(buffer_), .y = rows(slot_.dst), .factor = 1.0, .write = slot_.write});
}

}  // namespace lamina::ops
