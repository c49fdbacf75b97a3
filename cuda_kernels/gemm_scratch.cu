// SPDX-License-Identifier: MIT
#include "core/cuda/check.h"
#include "core/cuda/runtime.h"
#include "core/random.h"
#include "cuda_kernels/device/vector.cuh"
#include "cuda_kernels/dispatch.cuh"
#include "cuda_kernels/gemm_scratch.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

namespace lamina::kernels {
namespace {

constexpr int kThreads = 256;
constexpr std::size_t kBlocks = 2048;    // loop over the rest
constexpr std::size_t kAlignment = 512;  // bytes, of every operand
constexpr std::size_t kVector = 16;      // bytes: what alignments above do not matter for

/// Normal numbers with the given deviation, four from each block of Philox (Box and Muller 1958).
/// The approximate functions do: nobody takes statistics.
template <class T>
__global__ void __launch_bounds__(kThreads)
    fill_normal(T* const to, const std::size_t count, const std::uint64_t offset,
                const float deviation) {
  const std::size_t step = std::size_t{gridDim.x} * kThreads;
  for (std::size_t group = std::size_t{blockIdx.x} * kThreads + threadIdx.x; group < count / 4;
       group += step) {
    const PhiloxBlock words = philox_words({.seed = 1337, .offset = offset}, group);
    const auto uniform = [](std::uint32_t word) {  // in (0, 1)
      return (static_cast<float>(word >> 8U) + 0.5F) * 0x1p-24F;
    };
    const float first = deviation * sqrtf(-2.0F * __logf(uniform(words.x)));
    const float second = deviation * sqrtf(-2.0F * __logf(uniform(words.z)));
    float sine = 0.0F;
    float cosine = 0.0F;
    device::Pack<T, 4> pack;
    __sincosf(6.2831853F * uniform(words.y), &sine, &cosine);
    pack.set(0, first * sine);
    pack.set(1, first * cosine);
    __sincosf(6.2831853F * uniform(words.w), &sine, &cosine);
    pack.set(2, second * sine);
    pack.set(3, second * cosine);
    device::store_pack(to + 4 * group, pack);
  }
}

/// Elements from the first to the last one of `batch` matrices.
std::size_t extent_of(const Rows& view, std::int64_t batch, std::int64_t stride) {
  if (!view) return 0;
  const std::int64_t rows = (view.rows - 1) * std::max(view.stride, view.cols) + view.cols;
  return static_cast<std::size_t>((batch - 1) * stride + rows);
}

/// Bytes from a vector boundary to the operand, so that it is no better aligned than `like`.
std::size_t misalignment_of(const void* like) {
  const auto address = std::bit_cast<std::uintptr_t>(like);
  return static_cast<std::size_t>(address % kVector);
}

}  // namespace

GemmScratch::GemmScratch(const Gemm& like, CudaStream stream)
    : args_(like), device_(stream.device) {
  const auto deviation_of_b =
      static_cast<float>(1.0 / std::sqrt(static_cast<double>(std::max<std::int64_t>(like.k(), 1))));
  const bool adds = like.write == GradWrite::accumulate;
  const auto add_rows = [&](Rows& view, std::int64_t stride, float deviation) {
    if (view) add(view.data, extent_of(view, like.batch, stride), view.dtype, deviation);
  };
  add_rows(args_.a, like.stride_a, 1.0F);
  add_rows(args_.b, like.stride_b, deviation_of_b);
  add_rows(args_.d, like.stride_d, adds ? 1.0F : 0.0F);
  add_rows(args_.pre_activation, like.stride_d, 0.0F);
  if (args_.bias)
    add(args_.bias.data, static_cast<std::size_t>(like.bias.size), like.bias.dtype, 1);
  if (args_.workspace) {
    add(args_.workspace.data, static_cast<std::size_t>(like.workspace.size), DType::u8, 0);
  }
  memory_ = cuda::memory(device_).reserve(bytes_);
  if (memory_ == nullptr) return;
  for (const Part& part : parts_)
    fill(part, stream);
}

GemmScratch::~GemmScratch() {
  if (memory_ != nullptr) cuda::memory(device_).release(memory_, bytes_);
}

void GemmScratch::add(void*& pointer, std::size_t elements, DType dtype, float deviation) {
  parts_.push_back({.pointer = &pointer,
                    .at = bytes_,
                    .count = (elements + 7) / 8 * 8,  // whole packs, also behind a misalignment
                    .dtype = dtype,
                    .deviation = deviation});
  const std::size_t bytes = parts_.back().count * size_of(dtype) + kVector;
  bytes_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

void GemmScratch::fill(const Part& part, CudaStream stream) const {
  auto* const begin = static_cast<std::byte*>(memory_) + part.at;
  const std::size_t shift = misalignment_of(*part.pointer);
  *part.pointer = begin + shift;
  if (part.deviation <= 0.0F) return;
  dispatch_cuda_float(part.dtype, Gemm::kName, [&]<class T>() {
    const std::size_t count = part.count + kVector / sizeof(T);  // from `begin` to behind the last
    const std::size_t blocks = std::clamp<std::size_t>(count / (4 * kThreads), 1, kBlocks);
    fill_normal<<<static_cast<unsigned>(blocks), kThreads, 0, stream.handle>>>(
        reinterpret_cast<T*>(begin), count, part.at, part.deviation);
    LAMINA_CUDA_CHECK(cudaGetLastError());
  });
}

}  // namespace lamina::kernels
