// SPDX-License-Identifier: MIT
#include "core/kernels/dropout.h"

#include "autograd/ops.h"
#include "autograd/ops/support.h"

namespace lamina {

Var dropout(const Var& input, double p, Generator& generator) {
  constexpr std::string_view kOp = "dropout";
  ops::expect_operand(kOp, "x", input.value());
  expect_probability(kOp, "p", p);
  if (p == 0.0) return input;
  const Tensor x = ops::row_strided(input.value());
  const Tensor y = empty_like(x);
  const PhiloxKey key = generator.next();
  const auto drop_p = static_cast<float>(p);
  launch(stream_of(x), kernels::Dropout{.x = rows(x), .y = rows(y), .p = drop_p, .key = key});

  return record(kOp, {input}, {y}, [drop_p, key](std::span<const Tensor> d, Grads& grads) {
    const ops::TypedSlot dx(grads, 0, d[0].dtype());
    launch(stream_of(d[0]),
           kernels::Dropout{
               .x = rows(d[0]), .y = rows(dx.dst()), .p = drop_p, .key = key, .write = dx.write()});
    dx.hand_over();
  })[0];
}

}  // namespace lamina
