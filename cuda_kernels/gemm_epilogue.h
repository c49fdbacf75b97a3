// SPDX-License-Identifier: MIT
// What follows a matrix product when cuBLASLt does not do it: bias and activation in one pass.
// Internal to the CUDA kernels; used by gemm.cpp.
#pragma once

#include "core/kernels/gemm.h"

namespace lamina::kernels {

/// pre_activation = product + bias; d = activation(pre_activation). The sum is rounded only when it
/// is written: the activation takes it in f32. Product, pre_activation and d share a dtype and may
/// be the same memory.
struct GemmEpilogue {
  Rows product;         // [m, n], in
  Flat bias;            // [n], in, may be empty; f32 or the dtype of d or of the product's operands
  Rows pre_activation;  // [m, n], out, may be empty
  Rows d;               // [m, n], out
  bool has_activation;
  ActivationKind activation;
  std::int64_t batch;   // matrices
  std::int64_t stride;  // elements between the matrices of product, pre_activation and d
};

void run(const GemmEpilogue& args, CudaStream stream);

}  // namespace lamina::kernels
