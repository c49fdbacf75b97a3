// SPDX-License-Identifier: MIT
#include "core/kernels/softmax.h"

#include "autograd/ops.h"
#include "autograd/ops/support.h"

namespace lamina {
namespace {

Var softmax_rows(std::string_view op, const Var& input, std::int64_t period) {
  const Tensor x = ops::row_strided(input.value());
  const Tensor y = empty_like(x);
  launch(stream_of(x), kernels::Softmax{.x = rows(x), .y = rows(y), .period = period});

  return record(op, {input}, {y}, [y](std::span<const Tensor> d, Grads& grads) {
    const ops::TypedSlot dx(grads, 0, y.dtype());
    launch(stream_of(y),
           kernels::SoftmaxBackward{
               .y = rows(y), .dy = rows(d[0]), .dx = rows(dx.dst()), .write = dx.write()});
    dx.hand_over();
  })[0];
}

}  // namespace

Var softmax(const Var& x) {
  ops::expect_operand("softmax", "x", x.value());
  expect_rank("softmax", "x", x.value(), 1);
  return softmax_rows("softmax", x, 0);
}

Var causal_softmax(const Var& x) {
  constexpr std::string_view kOp = "causal_softmax";
  ops::expect_operand(kOp, "x", x.value());
  expect_rank(kOp, "x", x.value(), 2);
  expect_shape(kOp, "x", x.value(), x.shape().with(-1, x.dim(-2)),
               "a square matrix of queries and keys");
  return softmax_rows(kOp, x, x.dim(-1));
}

}  // namespace lamina
