// SPDX-License-Identifier: MIT
#include "core/upload.h"

#include "core/error.h"
#include "core/expect.h"
#include "core/tensor.h"
#include "core/text.h"

#include <utility>
#if LAMINA_WITH_CUDA
#include "core/cuda/runtime.h"
#endif

namespace lamina {

Upload::Upload(Device device, std::size_t bytes, int slots) : device_(device), bytes_(bytes) {
  if (slots < 1) throw Error(cat("upload: ", slots, " slots, expected at least 1"));
  expect_device(device);
#if LAMINA_WITH_CUDA
  if (!device.is_cuda()) return;
  auto* const memory =
      static_cast<std::byte*>(cuda::reserve_pinned(bytes * static_cast<std::size_t>(slots)));
  for (int i = 0; i < slots; ++i)
    slots_.push_back({memory + static_cast<std::size_t>(i) * bytes});
#endif
}

#if LAMINA_WITH_CUDA
Upload::~Upload() {
  if (slots_.empty()) return;
  for (const Slot& slot : slots_) {
    if (slot.copied != 0) cuda::memory(device_.index).wait(slot.copied);
  }
  cuda::release_pinned(slots_.front().data);
}
#else
Upload::~Upload() = default;
#endif

void Upload::operator()(const Tensor& to, const std::function<void(std::span<std::byte>)>& write) {
  expect_defined("upload", "the tensor", to);
  if (to.device() != device_ || !to.is_contiguous() || to.bytes() > bytes_) {
    throw Error(cat("upload: the tensor has ", to.bytes(), " bytes on ", to.device(), ", ",
                    to.is_contiguous() ? "" : "not ",
                    "contiguous, expected a contiguous one of at most ", bytes_, " bytes on ",
                    device_));
  }
  if (slots_.empty()) return write({static_cast<std::byte*>(to.data()), to.bytes()});
#if LAMINA_WITH_CUDA
  const auto stream = std::get<CudaStream>(stream_of(to));
  cuda::expect_no_capture("upload", stream);
  MemorySource& events = cuda::memory(device_.index);
  Slot& slot = slots_[next_];
  next_ = (next_ + 1) % slots_.size();
  if (slot.copied != 0) events.wait(std::exchange(slot.copied, 0));
  write({slot.data, to.bytes()});
  cuda::copy(to.data(), device_, slot.data, kCpu, to.bytes(), stream);
  slot.copied = events.record(id_of(stream));
#endif
}

}  // namespace lamina
