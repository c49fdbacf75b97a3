// SPDX-License-Identifier: MIT
#include "core/download.h"

#include "core/error.h"
#include "core/tensor.h"
#include "core/text.h"

#include <cstdlib>
#include <cstring>
#include <new>
#if LAMINA_WITH_CUDA
#include "core/cuda/runtime.h"

#include <variant>
#endif

namespace lamina {

Download::Download(Device device, std::size_t bytes)
    : device_(device), memory_(nullptr, std::free) {
  reserve(bytes);
}

void Download::reserve(std::size_t bytes) {
  if (bytes <= bytes_) return;
  memory_.reset();
  bytes_ = 0;
#if LAMINA_WITH_CUDA
  if (device_.is_cuda()) {
    memory_ = {static_cast<std::byte*>(cuda::reserve_pinned(bytes)), cuda::release_pinned};
    bytes_ = bytes;
    return;
  }
#endif
  memory_ = {static_cast<std::byte*>(std::malloc(bytes)), std::free};
  if (!memory_) throw std::bad_alloc();
  std::memset(memory_.get(), 0, bytes);  // its pages come now, and not with the first copy
  bytes_ = bytes;
}

std::vector<std::string_view> Download::operator()(std::span<const Tensor> tensors) {
  std::size_t total = 0;
  for (const Tensor& tensor : tensors) {
    if (tensor.device() != device_) {
      throw Error(cat("download: a tensor of shape ", tensor.shape(), " is on ", tensor.device(),
                      ", expected ", device_));
    }
    total += tensor.bytes();
  }
  reserve(total);
  std::vector<std::string_view> copies;
  std::byte* to = memory_.get();
  for (const Tensor& tensor : tensors) {
    const Tensor from = tensor.contiguous();
    if (from.bytes() > 0) {
#if LAMINA_WITH_CUDA
      if (device_.is_cuda()) {
        cuda::copy(to, kCpu, from.data(), device_, from.bytes(),
                   std::get<CudaStream>(stream_of(from)));
      }
#endif
      if (!device_.is_cuda()) std::memcpy(to, from.data(), from.bytes());
    }
    copies.emplace_back(reinterpret_cast<const char*>(to), from.bytes());
    to += from.bytes();
  }
  return copies;
}

}  // namespace lamina
