// SPDX-License-Identifier: MIT
#include "examples/custom_op/scaled_tanh.h"

#include "core/expect.h"
#include "core/launch.h"

namespace custom {

using lamina::Tensor;

lamina::Var scaled_tanh(const lamina::Var& x, float scale) {
  lamina::expect_float("scaled_tanh", "x", x.value());
  const Tensor in = x.value().contiguous();
  const Tensor y = lamina::empty_like(in);
  lamina::launch(stream_of(in), ScaledTanh{.x = flat(in), .y = flat(y), .scale = scale});

  // What the lambda captures is what stays in memory until the backward pass: here y, not x.
  return lamina::record(
      "scaled_tanh", {x}, {y}, [y, scale](std::span<const Tensor> dy, lamina::Grads& grads) {
        const auto [dx, write] = grads.slot(0);  // where to write, and whether to write or to add
        lamina::launch(
            stream_of(y),
            ScaledTanhBackward{
                .y = flat(y), .dy = flat(dy[0]), .dx = flat(dx), .scale = scale, .write = write});
      })[0];
}

}  // namespace custom
