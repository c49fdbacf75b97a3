// SPDX-License-Identifier: MIT
#include "autograd/ops.h"
#include "autograd/ops/broadcast.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/reduce.h"

namespace lamina {

Var add(const Var& a, const Var& b) {
  constexpr std::string_view kOp = "add";
  ops::expect_broadcast(kOp, a.value(), b.value());
  const Tensor a_rows = ops::row_strided(a.value()), b_rows = ops::row_strided(b.value());
  const Tensor y = empty_like(a.value());
  launch(stream_of(y), kernels::Add{.a = rows(a_rows), .b = rows(b_rows), .y = rows(y)});

  if (a.shape() == b.shape()) {
    return record(kOp, {a, b}, {y}, [](std::span<const Tensor> d, Grads& grads) {
      grads.give(0, d[0], grads.column_sum(0));
      grads.give(1, d[0], grads.column_sum(0));
    })[0];
  }
  return record(kOp, {a, b}, {y}, [](std::span<const Tensor> d, Grads& grads) {
    grads.give(0, d[0], grads.column_sum(0));
    const GradSlot db = grads.slot(1);
    if (!db.dst) return;
    ops::launch_with_workspace(
        d[0],
        kernels::ColumnSum{
            .x = rows(d[0]), .factor = {}, .y = rows(db.dst), .write = db.write, .workspace = {}});
  })[0];
}

}  // namespace lamina
