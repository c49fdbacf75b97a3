// SPDX-License-Identifier: MIT
// Contracts: multi-head scaled dot-product attention on a packed [batch, time, 3, heads, head_size]
// query-key-value tensor, without permuted copies in the interface.
// Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.2.
#pragma once

#include "core/check.h"
#include "core/kernels/reduce.h"
#include "core/random.h"
#include "core/stream.h"
#include "core/view.h"

#include <string_view>

namespace lamina::kernels {

/// Which element of the random region (drop_threshold()) decides about a probability; `head` counts
/// over batch and heads. Tiles of 16 queries and 16 keys have 32 blocks each, the first 4 of which
/// serve queries 0 and 8 of the tile: block b keys 2 b, 2 b + 1, 2 b + 8 and 2 b + 9. In a matrix
/// instruction's accumulator, these eight belong to one thread.
LAMINA_HOST_DEVICE constexpr std::uint64_t attention_mask_element(std::int64_t head,
                                                                  std::int64_t query,
                                                                  std::int64_t key,
                                                                  std::int64_t time) {
  const auto q = static_cast<std::uint64_t>(query), k = static_cast<std::uint64_t>(key);
  const std::uint64_t tiles = (static_cast<std::uint64_t>(time) + 15) / 16;
  const std::uint64_t tile = (static_cast<std::uint64_t>(head) * tiles + q / 16) * tiles + k / 16;
  const std::uint64_t block = tile * 32 + q % 8 * 4 + k % 8 / 2;
  return block * 8 + k / 8 % 2 * 4 + q / 8 % 2 * 2 + k % 2;
}

/// Extents and options that the forward and the backward pass share.
struct AttentionShape {
  std::int64_t batch, time, heads, head_size;
  float scale;          // of the scores, usually 1 / sqrt(head_size)
  bool causal;          // position t sees positions <= t
  float drop_p = 0.0F;  // of the probabilities, after the softmax
  PhiloxKey key{};      // of the mask: see attention_mask_element()

  std::int64_t score_elements() const { return batch * heads * time * time; }
};

/// out = dropout(softmax(scale * q k^T)) v per head. Probabilities are kept in f32 (f64 for f64).
struct Attention {
  static constexpr std::string_view kName = "attention";
  AttentionShape shape;
  Rows qkv;  // [batch * time, 3 * heads * head_size], in
  Rows out;  // [batch * time, heads * head_size], out
  Flat lse;  // [batch * heads * time], f32 (f64 for f64), out: log of the sum of exp(scores)
  Flat workspace{};  // u8, workspace_bytes() long, 16-byte aligned

  Cost cost() const {
    return {.bytes = bytes_of(qkv) + bytes_of(out) + bytes_of(lse),
            .flops = 4 * shape.score_elements() * shape.head_size / (shape.causal ? 2 : 1)};
  }
};

/// dqkv = the gradient of qkv, or += that. Scores are computed again from qkv and lse.
/// column_sum = the sum over the rows of dqkv as they are stored: the bias gradient of the linear
/// layer that made qkv. Overwritten; only where dqkv is overwritten, too, and has elements.
struct AttentionBackward {
  static constexpr std::string_view kName = "attention_backward";
  AttentionShape shape;
  Rows qkv, out;  // as in Attention, in
  Flat lse;       // as in Attention, in
  Rows dout;      // [batch * time, heads * head_size], in
  Rows dqkv;      // [batch * time, 3 * heads * head_size], out
  GradWrite write;
  Flat column_sum{};  // [3 * heads * head_size], f32 (f64 for f64), out, may be empty
  Flat workspace{};   // u8, workspace_bytes() long

  Cost cost() const {
    return {.bytes = 2 * bytes_of(qkv) + 2 * bytes_of(out) + bytes_of(lse) + bytes_of(column_sum),
            .flops = 10 * shape.score_elements() * shape.head_size / (shape.causal ? 2 : 1)};
  }
};

/// The column sum as a kernel of its own, for after the rest.
inline ColumnSum column_sum_of(const AttentionBackward& args) {
  const Flat& sum = args.column_sum;
  return {
      .x = args.dqkv,
      .factor = {},
      .y = {.data = sum.data, .rows = 1, .cols = sum.size, .stride = sum.size, .dtype = sum.dtype},
      .write = GradWrite::overwrite,
      .workspace = args.workspace};
}

/// Throws Error for a column sum of a dqkv that is not overwritten.
inline void expect_column_sum(const AttentionBackward& args) {
  LAMINA_CHECK(!args.column_sum || args.write == GradWrite::overwrite, AttentionBackward::kName,
               ": there is a column sum of a dqkv that is not overwritten, expected none");
}

void run(const Attention& args, CpuStream stream);
void run(const Attention& args, CudaStream stream);
std::int64_t workspace_bytes(const Attention& args, CpuStream stream);
std::int64_t workspace_bytes(const Attention& args, CudaStream stream);
void run(const AttentionBackward& args, CpuStream stream);
void run(const AttentionBackward& args, CudaStream stream);
std::int64_t workspace_bytes(const AttentionBackward& args, CpuStream stream);
std::int64_t workspace_bytes(const AttentionBackward& args, CudaStream stream);

}  // namespace lamina::kernels
