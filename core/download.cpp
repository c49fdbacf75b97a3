// SPDX-License-Identifier: MIT
#include "core/download.h"

#include "core/error.h"
#include "core/expect.h"
#include "core/tensor.h"
#include "core/text.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#if LAMINA_WITH_CUDA
#include "core/cuda/runtime.h"

#include <variant>
#endif

namespace lamina {

#if LAMINA_WITH_CUDA
namespace {

// Copies to the host run one by one: what a step reads waits for one piece, not for all.
constexpr std::size_t kPiece = std::size_t{8} << 20;

}  // namespace
#endif

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

void Download::begin(std::span<const Tensor> tensors) {
  std::size_t total = 0;
  for (const Tensor& tensor : tensors) {
    expect_defined("download", "a tensor", tensor);
    if (tensor.device() != device_) {
      throw Error(cat("download: a tensor of shape ", tensor.shape(), " is on ", tensor.device(),
                      ", expected ", device_));
    }
    total += tensor.bytes();
  }
  reserve(total);
  copies_.clear();
  staged_ = {};
  if (device_.is_cuda()) {
    try {
      staged_ = empty({static_cast<std::int64_t>(total)}, DType::u8, device_);
    } catch (const OutOfMemory&) {  // then each copy goes to the host at once
    }
  }
  std::byte* const to = staged_ ? static_cast<std::byte*>(staged_.data()) : memory_.get();
  std::size_t at = 0;
  for (const Tensor& tensor : tensors) {
    const Tensor from = tensor.contiguous();
    const std::size_t bytes = from.bytes();
    if (bytes > 0) {
#if LAMINA_WITH_CUDA
      if (device_.is_cuda()) {
        cuda::copy(to + at, staged_ ? device_ : kCpu, from.data(), device_, bytes,
                   std::get<CudaStream>(stream_of(from)));
      }
#endif
      if (!device_.is_cuda()) std::memcpy(to + at, from.data(), bytes);
    }
    copies_.emplace_back(reinterpret_cast<const char*>(memory_.get()) + at, bytes);
    at += bytes;
  }
#if LAMINA_WITH_CUDA
  if (staged_) ready_ = cuda::record_time(std::get<CudaStream>(stream_of(staged_)));
#endif
}

std::vector<std::string_view> Download::finish() {
#if LAMINA_WITH_CUDA
  if (staged_) {
    const CudaStream stream = cuda::transfer_stream(device_.index);
    if (ready_) cuda::wait_for(ready_.get());  // without one the device has failed: the copy throws
    const auto* const from = static_cast<const std::byte*>(staged_.data());
    for (std::size_t at = 0; at < staged_.bytes(); at += kPiece) {
      cuda::copy(memory_.get() + at, kCpu, from + at, device_,
                 std::min(kPiece, staged_.bytes() - at), stream);
    }
    staged_ = {};
  }
#endif
  return copies_;
}

}  // namespace lamina
