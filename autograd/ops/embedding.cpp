// SPDX-License-Identifier: MIT
#include "core/kernels/embedding.h"

#include "autograd/ops.h"
#include "autograd/ops/support.h"

namespace lamina {

Var embedding(const Tensor& tokens, const Var& weight) {
  constexpr std::string_view kOp = "embedding";
  ops::expect_operand(kOp, "weight", weight.value());
  expect_dtype(kOp, "tokens", tokens, DType::i32, "token numbers");
  expect_same_device(kOp, "tokens", tokens, "weight", weight.value());
  expect_rank(kOp, "weight", weight.value(), 2);
  expect_shape(kOp, "weight", weight.value(), {weight.dim(0), weight.dim(1)}, "[tokens, cols]");

  std::vector<std::int64_t> extents(tokens.shape().extents().begin(),
                                    tokens.shape().extents().end());
  extents.push_back(weight.dim(1));
  const Tensor ids = tokens.contiguous(), table = ops::row_strided(weight.value());
  const Tensor y = empty(Shape(extents), weight.dtype(), weight.device());
  launch(stream_of(y), kernels::Embedding{.tokens = flat(ids), .table = rows(table), .y = rows(y)});

  return record(kOp, {weight}, {y}, [ids](std::span<const Tensor> d, Grads& grads) {
    const GradSlot dtable = grads.slot(0);
    ops::launch_with_workspace(d[0], kernels::EmbeddingBackward{.tokens = flat(ids),
                                                                .dy = rows(d[0]),
                                                                .dtable = rows(dtable.dst),
                                                                .write = dtable.write,
                                                                .workspace = {}});
  })[0];
}

}  // namespace lamina
