// SPDX-License-Identifier: MIT
#include "core/kernels/reduce.h"

#include "autograd/ops.h"
#include "autograd/ops/support.h"
#include "core/kernels/fill.h"

namespace lamina {
namespace {

Var scaled_sum(std::string_view op, const Var& input, double factor) {
  const Tensor x = ops::row_strided(input.value());
  const Tensor y = empty({}, x.dtype(), x.device());
  ops::launch_with_workspace(
      x, kernels::Sum{.x = rows(x), .y = flat(y), .factor = factor, .workspace = {}});

  return record(op, {input}, {y}, [factor](std::span<const Tensor> d, Grads& grads) {
    const GradSlot dx = grads.slot(0);
    launch(stream_of(d[0]),
           kernels::FillFromScalar{
               .scalar = flat(d[0]), .y = rows(dx.dst), .factor = factor, .write = dx.write});
  })[0];
}

}  // namespace

Var sum(const Var& x) {
  ops::expect_operand("sum", "x", x.value());
  return scaled_sum("sum", x, 1.0);
}

Var mean(const Var& x) {
  ops::expect_operand("mean", "x", x.value());
  if (x.value().elements() == 0) {
    throw ShapeError(cat("mean: x has shape ", x.shape(), ", expected at least one element"));
  }
  return scaled_sum("mean", x, 1.0 / static_cast<double>(x.value().elements()));
}

}  // namespace lamina
