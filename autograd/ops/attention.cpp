// SPDX-License-Identifier: MIT
#include "core/kernels/attention.h"

#include "autograd/ops.h"
#include "autograd/ops/support.h"

#include <cmath>

namespace lamina {

Var attention(const Var& input, int heads, const AttentionOptions& options) {
  constexpr std::string_view kOp = "attention";
  ops::expect_operand(kOp, "qkv", input.value());
  if (input.rank() != 3 || heads < 1 || input.dim(2) == 0 ||
      input.dim(2) % (std::int64_t{3} * heads) != 0) {
    throw ShapeError(cat(kOp, ": qkv has shape ", input.shape(), ", expected [batch, time, 3 * ",
                         heads, " * head_size] (", heads, " heads)"));
  }
  expect_probability(kOp, "drop_p", options.drop_p);
  const bool drops = options.drop_p > 0.0;
  if (drops && !options.generator) {
    throw Error(cat(kOp, ": drop_p is ", options.drop_p,
                    " without a generator, expected one (it makes the mask)"));
  }
  const Tensor qkv = ops::row_strided(input.value());
  const std::int64_t batch = qkv.dim(0), time = qkv.dim(1), width = qkv.dim(2) / 3;
  const std::int64_t head_size = width / heads;
  const double score_scale =
      options.scale != 0.0 ? options.scale : 1.0 / std::sqrt(static_cast<double>(head_size));
  const kernels::AttentionShape shape{.batch = batch,
                                      .time = time,
                                      .heads = heads,
                                      .head_size = head_size,
                                      .scale = static_cast<float>(score_scale),
                                      .causal = options.causal,
                                      .drop_p = static_cast<float>(options.drop_p),
                                      .key = drops ? options.generator->next() : PhiloxKey{}};
  const Tensor out = empty({batch, time, width}, qkv.dtype(), qkv.device());
  const Tensor lse = empty({batch * heads * time}, accumulation_dtype(qkv.dtype()), qkv.device());
  ops::launch_with_workspace(
      qkv,
      kernels::Attention{
          .shape = shape, .qkv = rows(qkv), .out = rows(out), .lse = flat(lse), .workspace = {}});

  return record(kOp, {input}, {out},
                [shape, qkv, out, lse](std::span<const Tensor> d, Grads& grads) {
                  kernels::AttentionBackward args{.shape = shape,
                                                  .qkv = rows(qkv),
                                                  .out = rows(out),
                                                  .lse = flat(lse),
                                                  .dout = rows(d[0]),
                                                  .dqkv = {},
                                                  .write = GradWrite::overwrite};
                  if (!grads.wants_column_sum(0) || qkv.elements() == 0) {
                    const ops::TypedSlot dqkv(grads, 0, qkv.dtype());
                    args.dqkv = rows(dqkv.dst());
                    args.write = dqkv.write();
                    ops::launch_with_workspace(qkv, args);
                    return dqkv.hand_over();
                  }
                  const Tensor dqkv = empty(qkv.shape(), qkv.dtype(), qkv.device());
                  const Tensor column_sum =
                      empty({qkv.dim(-1)}, accumulation_dtype(qkv.dtype()), qkv.device());
                  args.dqkv = rows(dqkv);
                  args.column_sum = flat(column_sum);
                  ops::launch_with_workspace(qkv, args);
                  grads.give(0, dqkv, column_sum);
                })[0];
}

}  // namespace lamina
