// SPDX-License-Identifier: MIT
// Contract: attention of the next position of each sequence, over the positions before it, whose
// keys and values were kept. What writing a text token by token takes instead of Attention.
#pragma once

#include "core/stream.h"
#include "core/view.h"

#include <string_view>

namespace lamina::kernels {

/// Puts key and value of the new position into the cache, then out = softmax(scale * q k^T) v over
/// the positions 0 ... position[0] of each sequence and head. Probabilities are f32 (f64 for f64).
/// All operands but the position have one dtype.
struct CachedAttention {
  static constexpr std::string_view kName = "cached_attention";
  std::int64_t heads, head_size;
  std::int64_t capacity;  // positions that the cache has for a sequence
  float scale;            // of the scores, usually 1 / sqrt(head_size)
  Flat position;          // [1], i32, in: of the new tokens, the same in all sequences, < capacity
  Rows qkv;               // [batch, 3 * heads * head_size], in
  Rows cache;  // [batch * capacity, 2 * heads * head_size], keys before values, in and out
  Rows out;    // [batch, heads * head_size], out

  /// With a full cache: how full it is, the device knows.
  Cost cost() const {
    return {.bytes = bytes_of(qkv) + bytes_of(cache) + bytes_of(out),
            .flops = 4 * qkv.rows * capacity * heads * head_size};
  }
};

void run(const CachedAttention& args, CpuStream stream);
void run(const CachedAttention& args, CudaStream stream);

}  // namespace lamina::kernels
