// SPDX-License-Identifier: MIT
#include "core/ceilings.h"

#include "core/caching_allocator.h"
#include "core/kernels/gemm.h"
#include "core/launch.h"
#include "core/random.h"
#include "core/storage.h"
#include "core/tensor.h"
#include "core/text.h"
#include "core/time_point.h"

#include <algorithm>
#include <functional>
#include <limits>

namespace lamina {

namespace {

constexpr int kRepetitions = 7;

/// Milliseconds of one call, the least of several: what the device reaches, not what it does on
/// average. The first calls load the kernel.
double least_ms(Device device, const std::function<void()>& call) {
  const Stream stream = current_stream(device);
  call();
  double least = std::numeric_limits<double>::infinity();
  for (int i = 0; i < kRepetitions; ++i) {
    const TimePoint start = time_on(stream);
    call();
    least = std::min(least, ms_between(start, time_on(stream)));
  }
  return least;
}

double copy_gb_s(Device device) {
  // Many times the largest cache: 50 MB of L2 on an H200.
  const std::int64_t bytes = std::int64_t{device.is_cuda() ? 512 : 128} << 20;
  const Tensor from = zeros({bytes / 4}, DType::f32, device);
  const Tensor to = zeros({bytes / 4}, DType::f32, device);
  return 2.0 * static_cast<double>(bytes) / least_ms(device, [&] { to.copy_from(from); }) * 1e-6;
}

double matmul_tflop_s(Device device, DType dtype, bool allow_tf32) {
  const std::int64_t n = device.is_cuda() ? 8192 : 1024;
  Generator generator;
  // One drawn tile, repeated: numbers are drawn on the host, which would take longer than all else.
  const Tensor tile = randn({1024, 1024}, generator, dtype, device);
  const auto random = [&] {
    const Tensor matrix = empty({n, n}, dtype, device);
    for (std::int64_t row = 0; row < n; row += 1024) {
      for (std::int64_t col = 0; col < n; col += 1024)
        matrix.slice(0, row, row + 1024).slice(1, col, col + 1024).copy_from(tile);
    }
    return matrix;
  };
  const Tensor a = random(), b = random(), d = empty({n, n}, dtype, device);
  const Stream stream = current_stream(device);
  kernels::Gemm gemm{
      .a = rows(a), .b = rows(b), .d = rows(d), .transpose_b = true, .allow_tf32 = allow_tf32};
  const Tensor workspace = empty({workspace_bytes_of(stream, gemm)}, DType::u8, device);
  gemm.workspace = flat(workspace);
  const auto flops = static_cast<double>(gemm.cost().flops);
  return flops / least_ms(device, [&] { launch(stream, gemm); }) * 1e-9;
}

}  // namespace

Ceilings measure_ceilings(Device device, DType dtype, bool allow_tf32) {
  const std::unique_ptr<CachingAllocator> memory = new_allocator(device);
  const AllocatorScope scope(device, *memory);
  Ceilings ceilings;
  ceilings.copy_gb_s = copy_gb_s(device);
  ceilings.matmul_tflop_s = matmul_tflop_s(device, dtype, allow_tf32);
  ceilings.dtype = allow_tf32 ? "tf32" : cat(dtype);
  return ceilings;
}

}  // namespace lamina
