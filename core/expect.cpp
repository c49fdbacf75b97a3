// SPDX-License-Identifier: MIT
#include "core/expect.h"

namespace lamina {

void expect_defined(std::string_view op, std::string_view name, const Tensor& tensor) {
  if (!tensor) throw Error(cat(op, ": ", name, " is an empty handle, expected a tensor"));
}

void expect_shape(std::string_view op, std::string_view name, const Tensor& tensor,
                  const Shape& wanted, std::string_view why) {
  expect_defined(op, name, tensor);
  if (tensor.shape() != wanted) {
    throw ShapeError(
        cat(op, ": ", name, " has shape ", tensor.shape(), ", expected ", wanted, " (", why, ")"));
  }
}

void expect_rank(std::string_view op, std::string_view name, const Tensor& tensor, int least) {
  expect_defined(op, name, tensor);
  if (tensor.rank() < least) {
    throw ShapeError(cat(op, ": ", name, " has shape ", tensor.shape(), ", expected at least ",
                         least, least == 1 ? " dimension" : " dimensions"));
  }
}

void expect_dtype(std::string_view op, std::string_view name, const Tensor& tensor, DType wanted,
                  std::string_view why) {
  expect_defined(op, name, tensor);
  if (tensor.dtype() != wanted) {
    throw DTypeError(cat(op, ": ", name, " has dtype ", tensor.dtype(), ", expected ", wanted, " (",
                         why, "); convert with .to(DType::", wanted, ")"));
  }
}

void expect_float(std::string_view op, std::string_view name, const Tensor& tensor) {
  expect_defined(op, name, tensor);
  expect_float(op, name, tensor.dtype(), tensor.device());
}

void expect_float(std::string_view op, std::string_view name, DType dtype, Device device) {
  const bool on_cuda = device.is_cuda();
  const bool supported =
      dtype == DType::f32 ||
      (on_cuda ? dtype == DType::f16 || dtype == DType::bf16 : dtype == DType::f64);
  if (!supported) {
    throw DTypeError(cat(op, ": ", name, " has dtype ", dtype, ", expected ",
                         on_cuda ? "f32, f16 or bf16" : "f32 or f64", " (what ", device,
                         " computes in); convert with .to(DType::f32)"));
  }
}

void expect_same_device(std::string_view op, std::string_view name, const Tensor& tensor,
                        std::string_view other_name, const Tensor& other) {
  expect_defined(op, name, tensor);
  expect_defined(op, other_name, other);
  if (tensor.device() != other.device()) {
    throw DeviceError(cat(op, ": ", name, " is on ", tensor.device(), ", expected ", other.device(),
                          " (the device of ", other_name, "); move it with .to(device)"));
  }
}

void expect_probability(std::string_view op, std::string_view name, double value) {
  if (!(value >= 0.0 && static_cast<float>(value) < 1.0F)) {  // kernels take it as a float
    throw Error(cat(op, ": ", name, " is ", value, ", expected 0 <= ", name, " < 1"));
  }
}

}  // namespace lamina
