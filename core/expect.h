// SPDX-License-Identifier: MIT
// Checks of what users pass to ops, with one uniform text:
//   layer_norm: weight has shape [512], expected [768] (the last dimension of x [8, 1024, 768])
#pragma once

#include "core/tensor.h"

#include <string_view>

namespace lamina {

/// Throws Error when the tensor is an empty handle.
void expect_defined(std::string_view op, std::string_view name, const Tensor& tensor);

/// Throws ShapeError unless the shape is `wanted`; `why` names where that comes from.
void expect_shape(std::string_view op, std::string_view name, const Tensor& tensor,
                  const Shape& wanted, std::string_view why);

/// Throws ShapeError when the rank is below `least`.
void expect_rank(std::string_view op, std::string_view name, const Tensor& tensor, int least);

/// Throws DTypeError unless the dtype is `wanted`.
void expect_dtype(std::string_view op, std::string_view name, const Tensor& tensor, DType wanted,
                  std::string_view why);

/// Throws DTypeError unless the dtype is one of the float types; f16 and bf16 only on CUDA, f64
/// only on the CPU.
void expect_float(std::string_view op, std::string_view name, const Tensor& tensor);
void expect_float(std::string_view op, std::string_view name, DType dtype, Device device);

/// Throws DeviceError unless both tensors live on one device.
void expect_same_device(std::string_view op, std::string_view name, const Tensor& tensor,
                        std::string_view other_name, const Tensor& other);

/// Throws Error unless 0 <= value < 1.
void expect_probability(std::string_view op, std::string_view name, double value);

}  // namespace lamina
