// SPDX-License-Identifier: MIT
// The ceilings of a device, measured with the kernels that Lamina runs on it.
#pragma once

#include "core/device.h"
#include "core/dtype.h"
#include "core/profile.h"

namespace lamina {

/// Copies a block that no cache holds and multiplies large square matrices of random numbers (zeros
/// cost less power and run faster), each until the best of several repetitions is known. `dtype` of
/// the products: f32, or f16 and bf16 on CUDA; f32 with TF32 if allowed. Takes up to a second, in
/// memory that is given back. Throws OutOfMemory.
Ceilings measure_ceilings(Device device, DType dtype, bool allow_tf32 = false);

}  // namespace lamina
