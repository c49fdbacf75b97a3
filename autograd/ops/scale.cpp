// SPDX-License-Identifier: MIT
#include "autograd/ops.h"
#include "autograd/ops/support.h"
#include "core/kernels/elementwise.h"

namespace lamina {

Var scale(const Var& input, double factor) {
  constexpr std::string_view kOp = "scale";
  ops::expect_operand(kOp, "x", input.value());
  const Tensor x = ops::row_strided(input.value());
  const Tensor y = empty_like(x);
  launch(stream_of(x), kernels::Scale{.x = rows(x), .y = rows(y), .factor = factor});

  return record(kOp, {input}, {y}, [factor](std::span<const Tensor> d, Grads& grads) {
    const GradSlot dx = grads.slot(0);
    launch(stream_of(d[0]),
           kernels::Scale{.x = rows(d[0]), .y = rows(dx.dst), .factor = factor, .write = dx.write});
  })[0];
}

}  // namespace lamina
