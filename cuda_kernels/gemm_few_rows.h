// SPDX-License-Identifier: MIT
// Matrix products of few rows by many columns, as generation needs them one token at a time.
// Internal to the CUDA kernels; used by gemm.cpp.
#pragma once

#include "core/kernels/gemm.h"

namespace lamina::kernels {

/// Whether run_few_rows() does this product: 16-bit a [m, k] with at most 8 rows times b [n, k]
/// transposed, rows of both aligned to 16 bytes and k a multiple of 8, no batch, d overwritten.
bool has_few_rows(const Gemm& args);

/// The product with its bias and activation in one kernel. d is rounded once, at the end.
void run_few_rows(const Gemm& args, CudaStream stream);

}  // namespace lamina::kernels
