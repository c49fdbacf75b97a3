// SPDX-License-Identifier: MIT
// Which variant of the row kernels (LayerNorm and RMSNorm, forward and backward) runs for a number
// of columns. Not tuned yet: the limits come from register counts, see docs/kernels/layer_norm.md.
#pragma once

#include <cstdint>

namespace lamina::kernels::tuning {

/// A block of threads_per_row * rows_per_block threads. Each thread keeps `elements` of its row in
/// registers; 0 means that the row is read again in every pass.
struct RowPolicy {
  int elements = 0;
  int threads_per_row = 0;
  int rows_per_block = 1;

  constexpr bool operator==(const RowPolicy&) const = default;
};

namespace detail {
constexpr int round_up_to_warp(std::int64_t threads) {
  return static_cast<int>((threads + 31) / 32 * 32);
}

constexpr RowPolicy held(std::int64_t cols, int elements, int block_threads) {
  const int threads = round_up_to_warp((cols + elements - 1) / elements);
  return {elements, threads, threads < block_threads ? block_threads / threads : 1};
}
}  // namespace detail

/// Elements that a thread loads at a time: `width` is 16 bytes of them, or 1 for operands that are
/// not aligned or not a multiple of 16 bytes wide.
constexpr RowPolicy layer_norm_forward(std::int64_t cols, int width, int element_bytes) {
  if (width == 1) return cols <= 4096 ? detail::held(cols, 8, 128) : RowPolicy{0, 512, 1};
  if (cols <= 256) return detail::held(cols, 8, 128);
  if (cols <= 512) return detail::held(cols, 16, 128);
  if (cols <= 16384) return detail::held(cols, 32, cols <= 1024 ? 128 : 32);
  if (cols <= 32768 && element_bytes == 2) return detail::held(cols, 64, 32);
  return {0, 512, 1};
}

/// As above. More elements than 16 (8 of f32 with `has_tail`, a third sum over rows) do not fit
/// beside the sums over rows, which live in registers too.
constexpr RowPolicy layer_norm_backward(std::int64_t cols, int width, int element_bytes,
                                        bool has_tail) {
  if (cols <= 4096) return detail::held(cols, 8, 256);
  if (cols <= 8192 && width > 1 && (element_bytes == 2 || !has_tail)) {
    return detail::held(cols, 16, 256);
  }
  return {0, 512, 1};
}

/// Blocks of the backward pass per multiprocessor; each writes one row of partial sums.
constexpr int layer_norm_backward_blocks(std::int64_t cols) {
  return cols <= 2048 ? 2 : 1;
}

// Blocks stay within the 512 threads that the kernels are compiled for.
static_assert(layer_norm_forward(768, 8, 2) == RowPolicy{32, 32, 4});
static_assert(layer_norm_forward(256, 8, 2) == RowPolicy{8, 32, 4});
static_assert(layer_norm_forward(1025, 1, 2) == RowPolicy{8, 160, 1});
static_assert(layer_norm_forward(16384, 4, 4) == RowPolicy{32, 512, 1});
static_assert(layer_norm_forward(32768, 8, 2) == RowPolicy{64, 512, 1});
static_assert(layer_norm_forward(32768, 4, 4) == RowPolicy{0, 512, 1});
static_assert(layer_norm_backward(768, 8, 2, true) == RowPolicy{8, 96, 2});
static_assert(layer_norm_backward(4096, 1, 2, true) == RowPolicy{8, 512, 1});
static_assert(layer_norm_backward(8192, 8, 2, true) == RowPolicy{16, 512, 1});
static_assert(layer_norm_backward(8192, 4, 4, true) == RowPolicy{0, 512, 1});
static_assert(layer_norm_backward(8192, 1, 2, false) == RowPolicy{0, 512, 1});

}  // namespace lamina::kernels::tuning
