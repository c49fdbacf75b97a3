// SPDX-License-Identifier: MIT
#include "core/kernels/rms_norm.h"

#include "autograd/ops.h"
#include "autograd/ops/support.h"
#include "autograd/saved_tensor.h"

namespace lamina {

Var rms_norm(const Var& input, const Var& weight, double eps, Output output) {
  constexpr std::string_view kOp = "rms_norm";
  ops::expect_operand(kOp, "x", input.value());
  expect_rank(kOp, "x", input.value(), 1);
  ops::expect_norm_parameter(kOp, "weight", weight.value(), input.value());
  ops::expect_eps(kOp, eps);
  const Tensor x = ops::row_strided(input.value());
  const Tensor& w = weight.value();
  const bool saves = grad_enabled() && (input.requires_grad() || weight.requires_grad());
  const Tensor rstd =
      saves ? empty({rows(x).rows}, accumulation_dtype(x.dtype()), x.device()) : Tensor();
  const auto normalise = [x, w, rstd, eps] {
    const Tensor y = empty_like(x);
    launch(stream_of(x),
           kernels::RmsNorm{
               .x = rows(x), .weight = flat(w), .y = rows(y), .rstd = flat(rstd), .eps = eps});
    return y;
  };

  const Var y = record(
      kOp, {input, weight}, {normalise()}, [x, w, rstd](std::span<const Tensor> d, Grads& grads) {
        const ops::TypedSlot dx(grads, 0, x.dtype());
        const GradSlot dweight = grads.slot(1);
        ops::launch_with_workspace(x, kernels::RmsNormBackward{.x = rows(x),
                                                               .dy = rows(d[0]),
                                                               .weight = flat(w),
                                                               .rstd = flat(rstd),
                                                               .dx = rows(dx.dst()),
                                                               .dweight = flat(dweight.dst),
                                                               .dx_write = dx.write(),
                                                               .dweight_write = dweight.write,
                                                               .workspace = {}});
        dx.hand_over();
      })[0];
  if (output == Output::recomputed) recompute_output(y, normalise);
  return y;
}

}  // namespace lamina
