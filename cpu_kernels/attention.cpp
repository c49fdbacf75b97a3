// SPDX-License-Identifier: MIT
// Each head is worked through in blocks of kQueries query rows, against the keys that they see:
// small BLAS calls around softmax, with the probabilities of one block as the only scratch.
#include "core/kernels/attention.h"

#include "cpu_kernels/blas.h"
#include "cpu_kernels/keep_mask.h"
#include "cpu_kernels/softmax_row.h"

#include <algorithm>

namespace lamina::kernels {
namespace {

constexpr std::int64_t kQueries = 64;  // rows of a block

/// Heads are shared out in runs; each run has scratch of its own.
cpu::Chunks head_chunks(const AttentionShape& shape) {
  return cpu::chunks_of(shape.batch * shape.heads, shape.time * shape.time * shape.head_size);
}

std::int64_t block_elements(const AttentionShape& shape) {
  return std::min(kQueries, shape.time) * shape.time;
}

/// Where one head of one sequence lies in a packed tensor of `parts` (3 for q, k, v; 1 for
/// outputs).
template <class T>
struct Head {
  T* data;
  std::int64_t stride;

  Head(const Rows& rows, const AttentionShape& shape, std::int64_t head, std::int64_t part = 0)
      : data(cpu::row_of<T>(rows, head / shape.heads * shape.time) +
             (part * shape.heads + head % shape.heads) * shape.head_size),
        stride(rows.stride) {}

  T* row(std::int64_t i) const { return data + i * stride; }

  cpu::Operand<T> from(std::int64_t i, bool transposed = false) const {
    return {row(i), stride, transposed};
  }
};

/// A block of query rows and the number of keys that any of them sees.
struct Block {
  std::int64_t begin, rows, keys;

  Block(const AttentionShape& shape, std::int64_t first)
      : begin(first),
        rows(std::min(kQueries, shape.time - first)),
        keys(shape.causal ? first + rows : shape.time) {}

  /// Keys that row i of the block sees.
  std::int64_t visible(const AttentionShape& shape, std::int64_t i) const {
    return shape.causal ? begin + i + 1 : keys;
  }
};

/// Calls body(at, count, keep) for runs of the factors of `n` probabilities of one query.
template <class T, class Body>
void for_kept(const AttentionShape& shape, const cpu::KeepMask& mask, std::int64_t head,
              std::int64_t query, std::int64_t n, const Body& body) {
  T keep[cpu::kMaskBlock];
  std::uint32_t numbers[2 * cpu::kMaskBlock];  // those of another query lie between
  const T factor = static_cast<T>(mask.keep_factor);
  const std::uint32_t limit = mask.threshold;
  for (std::int64_t at = 0; at < n; at += cpu::kMaskBlock) {
    const std::int64_t count = std::min(cpu::kMaskBlock, n - at);
    const std::uint64_t first = attention_mask_element(head, query, at, shape.time);
    mask.draw((count + 15) / 16 * 4,  // each 16 keys have 4 blocks
              [block = first / 8](std::uint64_t g) { return block + g / 4 * 32 + g % 4; }, numbers);
    const std::uint32_t* const own = numbers + first % 8;
#pragma omp simd
    for (std::int64_t j = 0; j < count; ++j) {
      const std::uint32_t number = own[j / 16 * 32 + j % 8 / 2 * 8 + j / 8 % 2 * 4 + j % 2];
      keep[j] = number >= limit ? factor : T{0};
    }
    body(at, count, keep);
  }
}

template <class T>
void forward_head(const Attention& args, const cpu::KeepMask& mask, std::int64_t head, T* scores) {
  const AttentionShape& shape = args.shape;
  const Head<T> q(args.qkv, shape, head, 0), k(args.qkv, shape, head, 1),
      v(args.qkv, shape, head, 2);
  const Head<T> out(args.out, shape, head);
  T* const lse = args.lse.as<T>() + head * shape.time;
  for (std::int64_t first = 0; first < shape.time; first += kQueries) {
    const Block block(shape, first);
    cpu::multiply(block.rows, block.keys, shape.head_size, static_cast<T>(shape.scale),
                  q.from(first), k.from(0, true), T{0}, scores, block.keys);
    for (std::int64_t i = 0; i < block.rows; ++i) {
      T* const row = scores + i * block.keys;
      const std::int64_t visible = block.visible(shape, i);
      lse[first + i] = cpu::softmax_row(row, visible, row);
      std::fill(row + visible, row + block.keys, T{0});
      if (shape.drop_p > 0.0F) {
        for_kept<T>(shape, mask, head, first + i, visible,
                    [&](std::int64_t at, std::int64_t count, const T* keep) {
#pragma omp simd
                      for (std::int64_t c = 0; c < count; ++c)
                        row[at + c] *= keep[c];
                    });
      }
    }
    cpu::multiply(block.rows, shape.head_size, block.keys, T{1}, {scores, block.keys}, v.from(0),
                  T{0}, out.row(first), out.stride);
  }
}

/// Turns scores into probabilities after dropout, and dprobabilities into the gradient of the
/// scores.
template <class T>
void backward_row(const AttentionBackward& args, const cpu::KeepMask& mask, std::int64_t head,
                  std::int64_t query, std::int64_t visible, T delta, T* scores, T* dscores) {
  const AttentionShape& shape = args.shape;
  const T lse = args.lse.as<T>()[head * shape.time + query];
  const T scale = static_cast<T>(shape.scale);
  if (shape.drop_p > 0.0F) {
    for_kept<T>(shape, mask, head, query, visible,
                [&](std::int64_t at, std::int64_t count, const T* keep) {
                  T *const s = scores + at, *const ds = dscores + at;
#pragma omp simd
                  for (std::int64_t c = 0; c < count; ++c) {
                    const T p = cpu::exp_of(s[c] - lse);
                    ds[c] = p * (ds[c] * keep[c] - delta) * scale;
                    s[c] = p * keep[c];
                  }
                });
    return;
  }
#pragma omp simd
  for (std::int64_t c = 0; c < visible; ++c) {
    const T p = cpu::exp_of(scores[c] - lse);
    dscores[c] = p * (dscores[c] - delta) * scale;
    scores[c] = p;
  }
}

template <class T>
void backward_head(const AttentionBackward& args, const cpu::KeepMask& mask, std::int64_t head,
                   T* scores, T* dscores) {
  const AttentionShape& shape = args.shape;
  const std::int64_t size = shape.head_size;
  const Head<T> q(args.qkv, shape, head, 0), k(args.qkv, shape, head, 1),
      v(args.qkv, shape, head, 2);
  const Head<T> out(args.out, shape, head), dout(args.dout, shape, head);
  const Head<T> dq(args.dqkv, shape, head, 0), dk(args.dqkv, shape, head, 1),
      dv(args.dqkv, shape, head, 2);
  const T keep_old = args.write == GradWrite::accumulate ? T{1} : T{0};
  // From the last block, which sees all keys and so starts every row of dk and dv, to the first.
  const std::int64_t last = (shape.time - 1) / kQueries * kQueries;
  for (std::int64_t first = last; first >= 0; first -= kQueries) {
    const Block block(shape, first);
    const T beta = first == last ? keep_old : T{1};
    cpu::multiply(block.rows, block.keys, size, static_cast<T>(shape.scale), q.from(first),
                  k.from(0, true), T{0}, scores, block.keys);
    cpu::multiply(block.rows, block.keys, size, T{1}, dout.from(first), v.from(0, true), T{0},
                  dscores, block.keys);
    for (std::int64_t i = 0; i < block.rows; ++i) {
      const T *const o = out.row(first + i), *const d = dout.row(first + i);
      const T delta = cpu::lane_sum<T>(size, [&](std::int64_t c) { return o[c] * d[c]; });
      T *const score_row = scores + i * block.keys, *const dscore_row = dscores + i * block.keys;
      const std::int64_t visible = block.visible(shape, i);
      backward_row(args, mask, head, first + i, visible, delta, score_row, dscore_row);
      std::fill(score_row + visible, score_row + block.keys, T{0});
      std::fill(dscore_row + visible, dscore_row + block.keys, T{0});
    }
    cpu::multiply(block.keys, size, block.rows, T{1}, {scores, block.keys, true}, dout.from(first),
                  beta, dv.data, dv.stride);
    cpu::multiply(block.rows, size, block.keys, T{1}, {dscores, block.keys}, k.from(0), keep_old,
                  dq.row(first), dq.stride);
    cpu::multiply(block.keys, size, block.rows, T{1}, {dscores, block.keys, true}, q.from(first),
                  beta, dk.data, dk.stride);
  }
}

/// Calls body(head, scratch) for every head; scratch holds `blocks` blocks of scores.
template <class T, class Body>
void for_heads(const AttentionShape& shape, const Flat& workspace, std::int64_t blocks,
               const Body& body) {
  cpu::use_one_blas_thread();
  const cpu::Chunks chunks = head_chunks(shape);
  cpu::parallel_for(chunks.count, [&](std::int64_t chunk) {
    T* const scratch = workspace.as<T>() + chunk * blocks * block_elements(shape);
    for (std::int64_t head = chunks.begin(chunk); head < chunks.end(chunk); ++head) {
      body(head, scratch);
    }
  });
}

std::int64_t scratch_bytes(const AttentionShape& shape, DType dtype, std::int64_t blocks) {
  return head_chunks(shape).count * blocks * block_elements(shape) *
         static_cast<std::int64_t>(size_of(dtype));
}

}  // namespace

std::int64_t workspace_bytes(const Attention& args, CpuStream) {
  return scratch_bytes(args.shape, args.qkv.dtype, 1);
}

void run(const Attention& args, CpuStream) {
  const AttentionShape& shape = args.shape;
  if (shape.time == 0 || shape.head_size == 0) return;
  const cpu::KeepMask mask(shape.key, shape.drop_p);
  dispatch_float(args.qkv.dtype, args.kName, [&]<class T>() {
    for_heads<T>(shape, args.workspace, 1, [&](std::int64_t head, T* scratch) {
      forward_head<T>(args, mask, head, scratch);
    });
  });
}

std::int64_t workspace_bytes(const AttentionBackward& args, CpuStream stream) {
  const std::int64_t bytes = scratch_bytes(args.shape, args.qkv.dtype, 2);
  return args.column_sum ? std::max(bytes, workspace_bytes(column_sum_of(args), stream)) : bytes;
}

void run(const AttentionBackward& args, CpuStream stream) {
  expect_column_sum(args);
  const AttentionShape& shape = args.shape;
  if (args.write == GradWrite::skip || shape.time == 0 || shape.head_size == 0) return;
  const cpu::KeepMask mask(shape.key, shape.drop_p);
  dispatch_float(args.qkv.dtype, args.kName, [&]<class T>() {
    for_heads<T>(shape, args.workspace, 2, [&](std::int64_t head, T* scratch) {
      backward_head<T>(args, mask, head, scratch, scratch + block_elements(shape));
    });
  });
  if (args.column_sum) run(column_sum_of(args), stream);
}

}  // namespace lamina::kernels
