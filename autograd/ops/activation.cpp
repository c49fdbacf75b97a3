// SPDX-License-Identifier: MIT
#include "autograd/ops.h"
#include "autograd/ops/support.h"
#include "autograd/saved_tensor.h"
#include "core/kernels/elementwise.h"

namespace lamina {
namespace {

using ops::activated;

Var activation(std::string_view op, const Var& input, kernels::ActivationKind kind,
               Output output = Output::kept) {
  ops::expect_operand(op, "x", input.value());
  const Tensor x = ops::row_strided(input.value());
  const Var y =
      record(op, {input}, {activated(x, kind)}, [x, kind](std::span<const Tensor> d, Grads& grads) {
        const ops::TypedSlot dx(grads, 0, x.dtype());
        launch(stream_of(x), kernels::ActivationBackward{.x = rows(x),
                                                         .dy = rows(d[0]),
                                                         .dx = rows(dx.dst()),
                                                         .kind = kind,
                                                         .write = dx.write()});
        dx.hand_over();
      })[0];
  if (output == Output::recomputed) recompute_output(y, [x, kind] { return activated(x, kind); });
  return y;
}

}  // namespace

Var relu(const Var& x) {
  return activation("relu", x, kernels::ActivationKind::relu);
}

Var silu(const Var& x) {
  return activation("silu", x, kernels::ActivationKind::silu);
}

Var gelu(const Var& x, GeluForm form, Output output) {
  return activation("gelu", x,
                    form == GeluForm::tanh ? kernels::ActivationKind::gelu_tanh
                                           : kernels::ActivationKind::gelu_erf,
                    output);
}

}  // namespace lamina
