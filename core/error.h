// SPDX-License-Identifier: MIT
// The exceptions of Lamina. Texts read "<op>: <what is>, expected <what> (<why>); <what to do>".
// The narrowest type is thrown; everything derives from Error.
#pragma once

#include "core/allocator_stats.h"

#include <cstddef>
#include <stdexcept>
#include <string>

namespace lamina {

/// Base of every exception that Lamina throws.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A shape, rank or extent does not fit.
struct ShapeError : Error {
  using Error::Error;
};

/// A dtype is not supported by an op, or two dtypes differ.
struct DTypeError : Error {
  using Error::Error;
};

/// A device does not exist, or tensors live on different devices.
struct DeviceError : Error {
  using Error::Error;
};

/// A call of the CUDA runtime or of cuBLAS failed; `code` is its return value.
struct CudaError : Error {
  CudaError(const std::string& message, int error_code) : Error(message), code(error_code) {}

  int code;
};

/// A device has no memory left for a request of `requested` bytes.
struct OutOfMemory : Error {
  OutOfMemory(const std::string& message, std::size_t bytes, const AllocatorStats& at)
      : Error(message), requested(bytes), stats(at) {}

  std::size_t requested;  // bytes
  AllocatorStats stats;   // at the time of the failure
};

}  // namespace lamina
