// SPDX-License-Identifier: MIT
// The shape rule of add() and mul(): b has the shape of a, or that of its last dimensions.
#pragma once

#include "autograd/ops/support.h"

namespace lamina::ops {

inline void expect_broadcast(std::string_view op, const Tensor& a, const Tensor& b) {
  expect_operand(op, "a", a);
  expect_alike(op, "b", b, "a", a);
  const int rank = b.rank();
  const bool fits = rank == a.rank() || (rank > 0 && rank < a.rank());
  if (!fits || a.shape().sub(a.rank() - rank, a.rank()) != b.shape()) {
    throw ShapeError(cat(op, ": b has shape ", b.shape(), ", expected ", a.shape(),
                         " or its last dimensions (the shape of a)"));
  }
}

}  // namespace lamina::ops
