// SPDX-License-Identifier: MIT
#include "core/kernels/cached_attention.h"

#include "autograd/ops.h"
#include "autograd/ops/support.h"

#include <cmath>

namespace lamina {

Tensor cached_attention(const Tensor& input, int heads, const Tensor& cache,
                        const Tensor& position) {
  constexpr std::string_view kOp = "cached_attention";
  ops::expect_operand(kOp, "qkv", input);
  if (grad_enabled()) {
    throw Error(cat(kOp, ": gradients are recorded, expected a NoGrad around it (it has none; to ",
                    "train, use attention)"));
  }
  if (input.rank() != 3 || input.dim(1) != 1 || heads < 1 || input.dim(2) == 0 ||
      input.dim(2) % (std::int64_t{3} * heads) != 0) {
    throw ShapeError(cat(kOp, ": qkv has shape ", input.shape(), ", expected [batch, 1, 3 * ",
                         heads, " * head_size] (", heads, " heads)"));
  }
  const Tensor qkv = ops::row_strided(input);
  const std::int64_t batch = qkv.dim(0), width = qkv.dim(2) / 3;
  ops::expect_alike(kOp, "cache", cache, "qkv", qkv);
  expect_rank(kOp, "cache", cache, 3);
  expect_shape(kOp, "cache", cache, {batch, cache.dim(1), 2 * width},
               "[batch, capacity, 2 * heads * head_size]");
  if (!cache.is_contiguous()) {
    throw ShapeError(cat(kOp, ": cache is not contiguous, expected memory of its own (the kernel ",
                         "writes to it)"));
  }
  expect_dtype(kOp, "position", position, DType::i32, "a position");
  expect_shape(kOp, "position", position, {1}, "one for all sequences");
  expect_same_device(kOp, "position", position, "qkv", qkv);
  const Tensor out = empty({batch, 1, width}, qkv.dtype(), qkv.device());
  const std::int64_t head_size = width / heads;
  launch(stream_of(qkv),
         kernels::CachedAttention{
             .heads = heads,
             .head_size = head_size,
             .capacity = cache.dim(1),
             .scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_size))),
             .position = flat(position),
             .qkv = rows(qkv),
             .cache = rows(cache),
             .out = rows(out)});
  return out;
}

}  // namespace lamina
