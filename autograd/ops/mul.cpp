// SPDX-License-Identifier: MIT
#include "autograd/ops.h"
#include "autograd/ops/broadcast.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/reduce.h"

namespace lamina {

Var mul(const Var& a, const Var& b) {
  constexpr std::string_view kOp = "mul";
  ops::expect_broadcast(kOp, a.value(), b.value());
  const Tensor a_rows = ops::row_strided(a.value()), b_rows = ops::row_strided(b.value());
  const Tensor y = empty_like(a.value());
  launch(stream_of(y), kernels::Mul{.a = rows(a_rows), .b = rows(b_rows), .y = rows(y)});

  // Each operand is needed only for the gradient of the other one.
  const Tensor a_saved = b.requires_grad() ? a_rows : Tensor();
  const Tensor b_saved = a.requires_grad() ? b_rows : Tensor();
  return record(kOp, {a, b}, {y}, [a_saved, b_saved](std::span<const Tensor> d, Grads& grads) {
    const Tensor& dy = d[0];
    if (grads.wants(0)) {
      const ops::TypedSlot da(grads, 0, dy.dtype());
      launch(stream_of(dy),
             kernels::Mul{
                 .a = rows(dy), .b = rows(b_saved), .y = rows(da.dst()), .write = da.write()});
      da.hand_over();
    }
    if (grads.wants(1)) {
      const GradSlot db = grads.slot(1);
      ops::launch_with_workspace(dy, kernels::ColumnSum{.x = rows(dy),
                                                        .factor = rows(a_saved),
                                                        .y = rows(db.dst),
                                                        .write = db.write,
                                                        .workspace = {}});
    }
  })[0];
}

}  // namespace lamina
