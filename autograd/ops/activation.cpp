// SPDX-License-Identifier: MIT
#include "autograd/ops.h"
#include "autograd/ops/support.h"
#include "core/kernels/elementwise.h"

namespace lamina {
namespace {

Var activation(std::string_view op, const Var& input, kernels::ActivationKind kind) {
  ops::expect_operand(op, "x", input.value());
  const Tensor x = ops::row_strided(input.value());
  const Tensor y = empty_like(x);
  launch(stream_of(x), kernels::Activation{.x = rows(x), .y = rows(y), .kind = kind});

  return record(op, {input}, {y}, [x, kind](std::span<const Tensor> d, Grads& grads) {
    const ops::TypedSlot dx(grads, 0, x.dtype());
    launch(stream_of(x), kernels::ActivationBackward{.x = rows(x),
                                                     .dy = rows(d[0]),
                                                     .dx = rows(dx.dst()),
                                                     .kind = kind,
                                                     .write = dx.write()});
    dx.hand_over();
  })[0];
}

}  // namespace

Var relu(const Var& x) {
  return activation("relu", x, kernels::ActivationKind::relu);
}

Var silu(const Var& x) {
  return activation("silu", x, kernels::ActivationKind::silu);
}

Var gelu(const Var& x, GeluForm form) {
  return activation("gelu", x,
                    form == GeluForm::tanh ? kernels::ActivationKind::gelu_tanh
                                           : kernels::ActivationKind::gelu_erf);
}

}  // namespace lamina
