// SPDX-License-Identifier: MIT
#include "autograd/ops.h"
#include "autograd/ops/support.h"
#include "core/kernels/elementwise.h"

namespace lamina {

Var convert(const Var& input, DType dtype) {
  constexpr std::string_view kOp = "convert";
  ops::expect_operand(kOp, "x", input.value());
  expect_float(kOp, "the result", dtype, input.device());
  if (input.dtype() == dtype) return input;
  const Tensor x = ops::row_strided(input.value());
  const Tensor y = empty(x.shape(), dtype, x.device());
  launch(stream_of(x), kernels::Scale{.x = rows(x), .y = rows(y), .factor = 1.0});

  return record(kOp, {input}, {y}, [](std::span<const Tensor> d, Grads& grads) {
    const GradSlot dx = grads.slot(0);
    launch(stream_of(d[0]),
           kernels::Scale{.x = rows(d[0]), .y = rows(dx.dst), .factor = 1.0, .write = dx.write});
  })[0];
}

}  // namespace lamina
