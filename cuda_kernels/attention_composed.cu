// SPDX-License-Identifier: MIT
// Heads are worked on in chunks whose scores fit a fixed budget. A chunk is copied from the packed
// interface to [part, head, time, head_size], because cuBLASLt knows one stride between matrices
// and the packed layout has two (of the batch and of the head). Rows are padded to 8 elements, so
// that every row starts on 16 bytes; the padding never enters a product.
#include "core/cuda/check.h"
#include "core/kernels/gemm.h"
#include "cuda_kernels/attention_composed.h"
#include "cuda_kernels/device/drop_mask.cuh"
#include "cuda_kernels/device/vector.cuh"
#include "cuda_kernels/device/warp.cuh"
#include "cuda_kernels/dispatch.cuh"

#include <algorithm>

namespace lamina::kernels {
namespace {

using device::DropMask;
using device::kWarpSize;
using device::load_pack;
using device::Pack;
using device::store_pack;

constexpr std::int64_t kChunkBudget = std::int64_t{256} << 20;  // bytes
constexpr std::int64_t kRegionAlignment = 256;                  // bytes
constexpr int kRowsPerBlock = 8;                                // one warp per row
constexpr int kThreads = kRowsPerBlock * kWarpSize;
constexpr int kQuad = 4;  // columns per lane and step: 16 bytes of f32

std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

/// Extents of one chunk: heads first_head ... first_head + head_count - 1 of batch * heads.
struct Chunk {
  std::int64_t time, heads, head_size;
  std::int64_t score_pitch, head_pitch;  // elements from row to row: time and head_size, padded
  std::int64_t first_head, head_count;
  bool causal;
  float scale;

  __host__ __device__ std::int64_t rows() const { return head_count * time; }

  /// Elements from q to k to v.
  __host__ __device__ std::int64_t part_stride() const { return rows() * head_pitch; }
};

/// A row of a chunk: one query (or key) position of one head.
struct Row {
  std::int64_t index;  // in the chunk
  std::int64_t head;   // of batch * heads
  std::int64_t t;      // position
  int lane;
};

/// The row of this warp; index >= chunk.rows() when there is none.
__device__ __forceinline__ Row row_of(const Chunk& chunk) {
  const std::int64_t index =
      static_cast<std::int64_t>(blockIdx.x) * kRowsPerBlock + threadIdx.x / kWarpSize;
  return {.index = index,
          .head = chunk.first_head + index / chunk.time,
          .t = index % chunk.time,
          .lane = static_cast<int>(threadIdx.x % kWarpSize)};
}

/// Offset of the row in a packed matrix [batch * time, parts * heads * head_size], part 0.
__device__ __forceinline__ std::int64_t packed_offset(const Chunk& chunk, const Row& row,
                                                      std::int64_t stride) {
  const std::int64_t batch = row.head / chunk.heads;
  return (batch * chunk.time + row.t) * stride + row.head % chunk.heads * chunk.head_size;
}

/// to[part, head, t, :] = from[batch, t, part, head, :] for `parts` parts.
template <class T>
__global__ void __launch_bounds__(kThreads) unpack(const T* __restrict__ from, std::int64_t stride,
                                                   int parts, T* __restrict__ to, Chunk chunk) {
  const Row row = row_of(chunk);
  if (row.index >= chunk.rows()) return;
  const T* source = from + packed_offset(chunk, row, stride);
  T* target = to + row.index * chunk.head_pitch;
  for (int part = 0; part < parts; ++part) {
    for (std::int64_t e = row.lane; e < chunk.head_size; e += kWarpSize)
      target[e] = source[e];
    source += chunk.heads * chunk.head_size;
    target += chunk.part_stride();
  }
}

/// to[batch, t, part, head, :] = from[part, head, t, :], or += that.
template <class T, bool kAccumulate>
__global__ void __launch_bounds__(kThreads) pack(const float* __restrict__ from, T* __restrict__ to,
                                                 std::int64_t stride, int parts, Chunk chunk) {
  const Row row = row_of(chunk);
  if (row.index >= chunk.rows()) return;
  const float* source = from + row.index * chunk.head_pitch;
  T* target = to + packed_offset(chunk, row, stride);
  for (int part = 0; part < parts; ++part) {
    for (std::int64_t e = row.lane; e < chunk.head_size; e += kWarpSize) {
      const float before = kAccumulate ? device::to_float(target[e]) : 0.0F;
      target[e] = device::from_float<T>(before + source[e]);
    }
    source += chunk.part_stride();
    target += chunk.heads * chunk.head_size;
  }
}

/// delta[row] = sum of dout * out over the row: what the softmax's gradient subtracts, dropout
/// included.
template <class T>
__global__ void __launch_bounds__(kThreads)
    row_products(const T* __restrict__ out, std::int64_t out_stride, const T* __restrict__ dout,
                 std::int64_t dout_stride, float* __restrict__ delta, Chunk chunk) {
  const Row row = row_of(chunk);
  if (row.index >= chunk.rows()) return;
  const T* left = out + packed_offset(chunk, row, out_stride);
  const T* right = dout + packed_offset(chunk, row, dout_stride);
  float sum = 0.0F;
  for (std::int64_t e = row.lane; e < chunk.head_size; e += kWarpSize) {
    sum += device::to_float(left[e]) * device::to_float(right[e]);
  }
  sum = device::warp_sum(sum);
  if (row.lane == 0) delta[row.index] = sum;
}

/// What the probabilities at columns col ... col + 3 of the row are multiplied by. Its blocks serve
/// two rows, which are in different warps, and two more columns: a quarter of each is used.
template <bool kDropout>
__device__ __forceinline__ void dropout_factors(const DropMask& mask, const Chunk& chunk,
                                                const Row& row, std::int64_t col,
                                                float (&factors)[kQuad]) {
#pragma unroll
  for (int i = 0; i < kQuad; i += 2) {
    float pair[] = {1.0F, 1.0F};
    if constexpr (kDropout) {
      const std::uint64_t first = attention_mask_element(row.head, row.t, col + i, chunk.time);
      mask.apply(pair, mask.kept<2>(mask.offset(), first));
    }
    factors[i] = pair[0];
    factors[i + 1] = pair[1];
  }
}

/// probs = dropout(softmax(scores)) and lse = log(sum(exp(scores))), row by row. Columns that the
/// row does not see, and the padding, become 0.
template <class T, bool kDropout>
__global__ void __launch_bounds__(kThreads)
    softmax_rows(const float* __restrict__ scores, T* __restrict__ probs, float* __restrict__ lse,
                 DropMask mask, Chunk chunk) {
  const Row row = row_of(chunk);
  if (row.index >= chunk.rows()) return;
  const std::int64_t seen = chunk.causal ? row.t + 1 : chunk.time;
  const float* in = scores + row.index * chunk.score_pitch;
  T* out = probs + row.index * chunk.score_pitch;
  const float minus_infinity = -__int_as_float(0x7f800000);
  float peak = minus_infinity;
  float sum = 0.0F;
  for (std::int64_t col = row.lane * kQuad; col < seen; col += kWarpSize * kQuad) {
    const Pack<float, kQuad> quad = load_pack<kQuad>(in + col);
    float values[kQuad];
    float new_peak = peak;
#pragma unroll
    for (int i = 0; i < kQuad; ++i) {
      values[i] = col + i < seen ? quad[i] : minus_infinity;
      new_peak = fmaxf(new_peak, values[i]);
    }
    sum *= expf(peak - new_peak);
#pragma unroll
    for (float value : values)
      sum += expf(value - new_peak);
    peak = new_peak;
  }
  const float row_peak = device::warp_max(peak);
  const float row_sum = device::warp_sum(sum * expf(peak - row_peak));
  if (row.lane == 0) lse[row.index] = row_peak + logf(row_sum);

  const float inverse = 1.0F / row_sum;
  for (std::int64_t col = row.lane * kQuad; col < chunk.score_pitch; col += kWarpSize * kQuad) {
    Pack<T, kQuad> result;
    if (col < seen) {
      const Pack<float, kQuad> quad = load_pack<kQuad>(in + col);
      float factors[kQuad];
      dropout_factors<kDropout>(mask, chunk, row, col, factors);
#pragma unroll
      for (int i = 0; i < kQuad; ++i) {
        const float probability = expf(quad[i] - row_peak) * inverse;
        result.set(i, col + i < seen ? probability * factors[i] : 0.0F);
      }
    } else {
#pragma unroll
      for (int i = 0; i < kQuad; ++i)
        result.set(i, 0.0F);
    }
    store_pack(out + col, result);
  }
}

/// probs as softmax_rows made them, from scores and lse, and
/// dscores = scale * p * (dropout factor * dprobs - delta), p being the probability before dropout.
template <class T, bool kDropout>
__global__ void __launch_bounds__(kThreads)
    softmax_backward_rows(const float* __restrict__ scores, const float* __restrict__ dprobs,
                          const float* __restrict__ lse, const float* __restrict__ delta,
                          T* __restrict__ probs, T* __restrict__ dscores, DropMask mask,
                          Chunk chunk) {
  const Row row = row_of(chunk);
  if (row.index >= chunk.rows()) return;
  const std::int64_t seen = chunk.causal ? row.t + 1 : chunk.time;
  const std::int64_t start = row.index * chunk.score_pitch;
  const float row_lse = lse[row.index];
  const float row_delta = delta[row.index];
  for (std::int64_t col = row.lane * kQuad; col < chunk.score_pitch; col += kWarpSize * kQuad) {
    Pack<T, kQuad> dropped, gradient;
    if (col < seen) {
      const Pack<float, kQuad> score = load_pack<kQuad>(scores + start + col);
      const Pack<float, kQuad> dprob = load_pack<kQuad>(dprobs + start + col);
      float factors[kQuad];
      dropout_factors<kDropout>(mask, chunk, row, col, factors);
#pragma unroll
      for (int i = 0; i < kQuad; ++i) {
        const float p = expf(score[i] - row_lse);
        const float ds = chunk.scale * p * (factors[i] * dprob[i] - row_delta);
        dropped.set(i, col + i < seen ? p * factors[i] : 0.0F);
        gradient.set(i, col + i < seen ? ds : 0.0F);
      }
    } else {
#pragma unroll
      for (int i = 0; i < kQuad; ++i) {
        dropped.set(i, 0.0F);
        gradient.set(i, 0.0F);
      }
    }
    store_pack(probs + start + col, dropped);
    store_pack(dscores + start + col, gradient);
  }
}

/// Hands out aligned regions of the workspace; with a null base it only adds up their sizes.
class Regions {
 public:
  explicit Regions(void* base) : base_(static_cast<std::byte*>(base)) {}

  void* take(std::int64_t bytes) {
    void* region = base_ ? base_ + used_ : nullptr;
    used_ += round_up(bytes, kRegionAlignment);
    return region;
  }

  std::int64_t used() const { return used_; }

 private:
  std::byte* base_;
  std::int64_t used_ = 0;
};

/// The workspace of one pass over a chunk of T.
struct Buffers {
  void* parts;     // [3 or 4, heads, time, head_pitch], T: q, k, v and dout
  float* scores;   // [heads, time, score_pitch]
  float* dprobs;   // the same, backward only
  void* probs;     // the same, T
  void* dscores;   // the same, T, backward only
  float* delta;    // [heads, time], backward only
  float* results;  // [1 or 3, heads, time, head_pitch]: out, or dq, dk and dv
  Flat workspace;  // of the products
  std::int64_t bytes;
};

/// The buffers from `base` on, for a T of `element` bytes.
Buffers make_buffers(void* base, const Chunk& chunk, bool backward, std::int64_t element) {
  constexpr std::int64_t kFloat = sizeof(float);
  const std::int64_t scores = chunk.rows() * chunk.score_pitch;
  const std::int64_t part = chunk.part_stride();
  Regions regions(base);
  Buffers buffers{};
  buffers.parts = regions.take((backward ? 4 : 3) * part * element);
  buffers.scores = static_cast<float*>(regions.take(scores * kFloat));
  buffers.probs = regions.take(scores * element);
  if (backward) {
    buffers.dprobs = static_cast<float*>(regions.take(scores * kFloat));
    buffers.dscores = regions.take(scores * element);
    buffers.delta = static_cast<float*>(regions.take(chunk.rows() * kFloat));
  }
  buffers.results = static_cast<float*>(regions.take((backward ? 3 : 1) * part * kFloat));
  const std::int64_t gemm_bytes = workspace_bytes(Gemm{}, CudaStream{});
  buffers.workspace = {.data = regions.take(gemm_bytes), .size = gemm_bytes, .dtype = DType::u8};
  buffers.bytes = regions.used();
  return buffers;
}

/// The largest chunk: as many heads as fit the budget when T is f32, at least one.
Chunk make_chunk(const AttentionShape& shape, bool backward) {
  const std::int64_t score_pitch = round_up(shape.time, 8);
  const std::int64_t head_pitch = round_up(shape.head_size, 8);
  const std::int64_t per_head =
      shape.time * static_cast<std::int64_t>(sizeof(float)) *
      ((backward ? 4 : 2) * score_pitch + (backward ? 7 : 4) * head_pitch + 1);
  const std::int64_t all = shape.batch * shape.heads;
  const std::int64_t head_count =
      per_head > 0 ? std::min(all, std::max<std::int64_t>(1, kChunkBudget / per_head)) : all;
  return {.time = shape.time,
          .heads = shape.heads,
          .head_size = shape.head_size,
          .score_pitch = score_pitch,
          .head_pitch = head_pitch,
          .first_head = 0,
          .head_count = head_count,
          .causal = shape.causal,
          .scale = shape.scale};
}

/// Calls f(chunk) for all heads, in order.
template <class F>
void for_each_chunk(const AttentionShape& shape, bool backward, F&& f) {
  const std::int64_t all = shape.batch * shape.heads;
  Chunk chunk = make_chunk(shape, backward);
  const std::int64_t most = chunk.head_count;
  for (; chunk.first_head < all; chunk.first_head += most) {
    chunk.head_count = std::min(most, all - chunk.first_head);
    f(static_cast<const Chunk&>(chunk));
  }
}

/// Launches a kernel with one warp per row of the chunk.
template <class... Parameters, class... Arguments>
void launch_rows(void (*kernel)(Parameters...), const Chunk& chunk, CudaStream stream,
                 Arguments... arguments) {
  const auto blocks = static_cast<unsigned>((chunk.rows() + kRowsPerBlock - 1) / kRowsPerBlock);
  kernel<<<blocks, kThreads, 0, stream.handle>>>(arguments..., chunk);
  LAMINA_CUDA_CHECK(cudaGetLastError());
}

enum class Transpose { none, a, b };

/// d = alpha * op(a) op(b) for each head of the chunk; matrices follow each other without a gap.
void multiply(const Rows& a, const Rows& b, const Rows& d, Transpose transpose, float alpha,
              const Chunk& chunk, const Buffers& buffers, CudaStream stream) {
  run(Gemm{.a = a,
           .b = b,
           .d = d,
           .transpose_a = transpose == Transpose::a,
           .transpose_b = transpose == Transpose::b,
           .alpha = alpha,
           .batch = chunk.head_count,
           .stride_a = a.rows * a.stride,
           .stride_b = b.rows * b.stride,
           .stride_d = d.rows * d.stride,
           .workspace = buffers.workspace},
      stream);
}

/// The first [time, time] matrix of scores or probabilities.
Rows score_view(void* data, DType dtype, const Chunk& chunk) {
  return {.data = data,
          .rows = chunk.time,
          .cols = chunk.time,
          .stride = chunk.score_pitch,
          .dtype = dtype};
}

/// The first [time, head_size] matrix of part `part`.
template <class T>
Rows part_view(T* data, int part, DType dtype, const Chunk& chunk) {
  return {.data = data + part * chunk.part_stride(),
          .rows = chunk.time,
          .cols = chunk.head_size,
          .stride = chunk.head_pitch,
          .dtype = dtype};
}

template <class T>
void forward_chunk(const Attention& args, const Chunk& chunk, CudaStream stream) {
  const DType dtype = args.qkv.dtype;
  const Buffers buffers = make_buffers(args.workspace.data, chunk, false, sizeof(T));
  auto* parts = static_cast<T*>(buffers.parts);
  launch_rows(unpack<T>, chunk, stream, args.qkv.as<const T>(), args.qkv.stride, 3, parts);

  const Rows scores = score_view(buffers.scores, DType::f32, chunk);
  const Rows probs = score_view(buffers.probs, dtype, chunk);
  multiply(part_view(parts, 0, dtype, chunk), part_view(parts, 1, dtype, chunk), scores,
           Transpose::b, chunk.scale, chunk, buffers, stream);
  dispatch_bool(args.shape.drop_p > 0.0F, [&]<bool kDropout>() {
    launch_rows(softmax_rows<T, kDropout>, chunk, stream, buffers.scores, probs.as<T>(),
                args.lse.as<float>() + chunk.first_head * chunk.time,
                DropMask(args.shape.drop_p, args.shape.key));
  });
  multiply(probs, part_view(parts, 2, dtype, chunk),
           part_view(buffers.results, 0, DType::f32, chunk), Transpose::none, 1.0F, chunk, buffers,
           stream);
  launch_rows(pack<T, false>, chunk, stream, buffers.results, args.out.as<T>(), args.out.stride, 1);
}

template <class T>
void backward_chunk(const AttentionBackward& args, const Chunk& chunk, CudaStream stream) {
  const DType dtype = args.qkv.dtype;
  const Buffers buffers = make_buffers(args.workspace.data, chunk, true, sizeof(T));
  auto* parts = static_cast<T*>(buffers.parts);
  launch_rows(unpack<T>, chunk, stream, args.qkv.as<const T>(), args.qkv.stride, 3, parts);
  launch_rows(unpack<T>, chunk, stream, args.dout.as<const T>(), args.dout.stride, 1,
              parts + 3 * chunk.part_stride());
  launch_rows(row_products<T>, chunk, stream, args.out.as<const T>(), args.out.stride,
              args.dout.as<const T>(), args.dout.stride, buffers.delta);

  const Rows query = part_view(parts, 0, dtype, chunk);
  const Rows key = part_view(parts, 1, dtype, chunk);
  const Rows value = part_view(parts, 2, dtype, chunk);
  const Rows dout = part_view(parts, 3, dtype, chunk);
  const Rows probs = score_view(buffers.probs, dtype, chunk);
  const Rows dscores = score_view(buffers.dscores, dtype, chunk);
  multiply(query, key, score_view(buffers.scores, DType::f32, chunk), Transpose::b, chunk.scale,
           chunk, buffers, stream);
  multiply(dout, value, score_view(buffers.dprobs, DType::f32, chunk), Transpose::b, 1.0F, chunk,
           buffers, stream);
  dispatch_bool(args.shape.drop_p > 0.0F, [&]<bool kDropout>() {
    launch_rows(softmax_backward_rows<T, kDropout>, chunk, stream, buffers.scores, buffers.dprobs,
                args.lse.as<const float>() + chunk.first_head * chunk.time, buffers.delta,
                probs.as<T>(), dscores.as<T>(), DropMask(args.shape.drop_p, args.shape.key));
  });
  const auto result = [&](int part) { return part_view(buffers.results, part, DType::f32, chunk); };
  multiply(dscores, key, result(0), Transpose::none, 1.0F, chunk, buffers, stream);
  multiply(dscores, query, result(1), Transpose::a, 1.0F, chunk, buffers, stream);
  multiply(probs, dout, result(2), Transpose::a, 1.0F, chunk, buffers, stream);
  dispatch_bool(args.write == GradWrite::accumulate, [&]<bool kAccumulate>() {
    launch_rows(pack<T, kAccumulate>, chunk, stream, buffers.results, args.dqkv.as<T>(),
                args.dqkv.stride, 3);
  });
}

}  // namespace

std::int64_t attention_composed_workspace(const AttentionShape& shape, bool backward) {
  return make_buffers(nullptr, make_chunk(shape, backward), backward, sizeof(float)).bytes;
}

void attention_composed(const Attention& args, CudaStream stream) {
  if (args.shape.score_elements() == 0) return;
  dispatch_cuda_float(args.qkv.dtype, Attention::kName, [&]<class T>() {
    for_each_chunk(args.shape, false,
                   [&](const Chunk& chunk) { forward_chunk<T>(args, chunk, stream); });
  });
}

void attention_composed_backward(const AttentionBackward& args, CudaStream stream) {
  if (args.shape.score_elements() == 0 || args.write == GradWrite::skip) return;
  dispatch_cuda_float(args.qkv.dtype, AttentionBackward::kName, [&]<class T>() {
    for_each_chunk(args.shape, true,
                   [&](const Chunk& chunk) { backward_chunk<T>(args, chunk, stream); });
  });
}

}  // namespace lamina::kernels
