// SPDX-License-Identifier: MIT
#include "autograd/ops.h"
#include "autograd/ops/support.h"
#include "core/kernels/gemm.h"

#include <algorithm>

namespace lamina {
namespace {

thread_local bool allow_tf32 = false;

/// The first of `batch` equal matrices that follow each other in `tensor`.
struct Matrices {
  Rows first;
  std::int64_t stride;  // elements between matrices
};

Matrices matrices(const Tensor& tensor, std::int64_t batch) {
  Rows all = rows(tensor);
  all.rows /= std::max<std::int64_t>(batch, 1);
  return {all, all.rows * all.stride};
}

}  // namespace

bool ops::tf32_allowed() {
  return allow_tf32;
}

AllowTf32::AllowTf32(bool allow) : previous_(std::exchange(allow_tf32, allow)) {}

AllowTf32::~AllowTf32() {
  allow_tf32 = previous_;
}

Var matmul(const Var& a, const Var& b) {
  constexpr std::string_view kOp = "matmul";
  ops::expect_operand(kOp, "a", a.value());
  ops::expect_alike(kOp, "b", b.value(), "a", a.value());
  expect_rank(kOp, "a", a.value(), 2);
  expect_rank(kOp, "b", b.value(), 2);
  const std::int64_t k = a.dim(-1);
  const bool shared_b = b.rank() == 2;
  const Shape wanted = shared_b ? Shape{k, b.dim(-1)} : a.shape().with(-2, k).with(-1, b.dim(-1));
  expect_shape(kOp, "b", b.value(), wanted,
               cat("the inner and leading dimensions of a ", a.shape()));

  const Tensor left = ops::row_strided(a.value()), right = ops::row_strided(b.value());
  const Tensor y = empty(a.shape().with(-1, b.dim(-1)), a.dtype(), a.device());
  // One b for all: the leading dimensions of a are only more rows.
  const std::int64_t batch = shared_b ? 1 : a.shape().sub(0, -2).elements();
  const bool tf32 = allow_tf32;
  const auto product = [batch, tf32](const Tensor& p, bool transpose_p, const Tensor& q,
                                     bool transpose_q, const Tensor& out, GradWrite write) {
    const Matrices first = matrices(p, batch), second = matrices(q, batch),
                   d = matrices(out, batch);
    ops::launch_with_workspace(out, kernels::Gemm{.a = first.first,
                                                  .b = second.first,
                                                  .d = d.first,
                                                  .transpose_a = transpose_p,
                                                  .transpose_b = transpose_q,
                                                  .write = write,
                                                  .bias = {},
                                                  .pre_activation = {},
                                                  .batch = batch,
                                                  .stride_a = first.stride,
                                                  .stride_b = second.stride,
                                                  .stride_d = d.stride,
                                                  .allow_tf32 = tf32,
                                                  .workspace = {}});
  };
  product(left, false, right, false, y, GradWrite::overwrite);

  const Tensor a_saved = b.requires_grad() ? left : Tensor();
  const Tensor b_saved = a.requires_grad() ? right : Tensor();
  return record(kOp, {a, b}, {y},
                [a_saved, b_saved, product](std::span<const Tensor> d, Grads& grads) {
                  if (grads.wants(0)) {
                    const GradSlot da = grads.slot(0);
                    product(d[0], false, b_saved, true, da.dst, da.write);
                  }
                  if (grads.wants(1)) {
                    const GradSlot db = grads.slot(1);
                    product(a_saved, true, d[0], false, db.dst, db.write);
                  }
                })[0];
}

}  // namespace lamina
