// SPDX-License-Identifier: MIT
// GemmScratch: a Gemm on operands of its own with random numbers in them, to time what the caller's
// operands must not be touched for. Internal to the CUDA kernels.
#pragma once

#include "core/kernels/gemm.h"

#include <cstddef>
#include <vector>

namespace lamina::kernels {

class GemmScratch {
 public:
  /// Operands with the extents, strides, dtypes and alignments of `like`, normal numbers scaled so
  /// that d has a variance of one. The memory comes from the device directly, not from an
  /// allocator: a pool would keep it.
  GemmScratch(const Gemm& like, CudaStream stream);

  /// Waits for the device.
  ~GemmScratch();
  GemmScratch(const GemmScratch&) = delete;
  GemmScratch& operator=(const GemmScratch&) = delete;

  /// False when the device has no memory for it.
  explicit operator bool() const { return memory_ != nullptr; }

  const Gemm& args() const { return args_; }

 private:
  struct Part {
    void** pointer;     // of args_
    std::size_t at;     // bytes from the beginning of the memory
    std::size_t count;  // elements
    DType dtype;
    float deviation;  // of its numbers; 0: none are needed
  };

  void add(void*& pointer, std::size_t elements, DType dtype, float deviation);
  void fill(const Part& part, CudaStream stream) const;

  Gemm args_;
  std::vector<Part> parts_;
  std::size_t bytes_ = 0;
  void* memory_ = nullptr;
  int device_;
};

}  // namespace lamina::kernels
