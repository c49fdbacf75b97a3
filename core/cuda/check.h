// SPDX-License-Identifier: MIT
// LAMINA_CUDA_CHECK: for every call of the CUDA runtime but those in destructors and in functions
// that say how they treat a failure.
#pragma once

#include "core/error.h"
#include "core/text.h"

#include <cuda_runtime_api.h>

/// Throws CudaError with the call, the error's name and text, file and line.
#define LAMINA_CUDA_CHECK(call)                                                               \
  do {                                                                                        \
    const cudaError_t lamina_status = (call);                                                 \
    if (lamina_status != cudaSuccess) [[unlikely]] {                                          \
      throw ::lamina::CudaError(                                                              \
          ::lamina::cat("cuda: ", #call, " gave ", cudaGetErrorName(lamina_status), " (",     \
                        cudaGetErrorString(lamina_status), ") at ", __FILE__, ":", __LINE__), \
          static_cast<int>(lamina_status));                                                   \
    }                                                                                         \
  } while (false)
