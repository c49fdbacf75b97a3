// SPDX-License-Identifier: MIT
// linear and linear_gelu: three products, of which two make the gradients.
#include "autograd/ops.h"
#include "autograd/ops/support.h"
#include "autograd/saved_tensor.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/gemm.h"
#include "core/kernels/reduce.h"

namespace lamina {
namespace {

void expect_linear_operands(std::string_view op, const Tensor& x, const Tensor& weight,
                            const Tensor& bias) {
  ops::expect_operand(op, "x", x);
  expect_rank(op, "x", x, 1);
  ops::expect_alike(op, "weight", weight, "x", x);
  expect_rank(op, "weight", weight, 2);
  expect_shape(op, "weight", weight, {weight.dim(0), x.dim(-1)},
               cat("[out, in], in being the last dimension of x ", x.shape()));
  if (!bias) return;
  ops::expect_alike(op, "bias", bias, "x", x);
  expect_shape(op, "bias", bias, {weight.dim(0)}, cat("the rows of weight ", weight.shape()));
}

/// What the backward pass needs; x and weight only if the other one has a gradient.
struct SavedLinear {
  SavedTensor x;
  Tensor weight;
  bool tf32;
};

SavedLinear save(const Var& input, const Tensor& x, const Var& weight, const Tensor& w) {
  return {weight.requires_grad() ? SavedTensor(input, x) : SavedTensor(),
          input.requires_grad() ? w : Tensor(), ops::tf32_allowed()};
}

/// Gradients of inputs 0 and 1, x and weight.
void give_products(const SavedLinear& saved, const Tensor& dy, Grads& grads) {
  const auto product = [&saved, &dy](bool transpose_dy, const Tensor& other, const GradSlot& slot) {
    kernels::Gemm args{};
    args.a = rows(dy);
    args.b = rows(other);
    args.d = rows(slot.dst);
    args.transpose_a = transpose_dy;
    args.write = slot.write;
    args.allow_tf32 = saved.tf32;
    ops::launch_with_workspace(dy, args);
  };
  if (grads.wants(0)) product(false, saved.weight, grads.slot(0));
  if (grads.wants(1)) product(true, saved.x.get(), grads.slot(1));
}

/// The gradient of input 2, the bias: the column sum that came with dy, or else its own.
void give_bias_gradient(const Tensor& dy, Grads& grads) {
  if (!grads.wants(2)) return;
  if (grads.column_sum(0)) return grads.give(2, grads.column_sum(0));
  const GradSlot dbias = grads.slot(2);
  ops::launch_with_workspace(dy, kernels::ColumnSum{.x = rows(dy),
                                                    .factor = {},
                                                    .y = rows(dbias.dst),
                                                    .write = dbias.write,
                                                    .workspace = {}});
}

Tensor gelu_of(const Tensor& before) {
  return ops::activated(before, kernels::ActivationKind::gelu_tanh);
}

/// The gradient of the pre-activation, in the memory of dy where nobody else holds it. The same
/// pass makes that of input 2, the bias.
Tensor gelu_backward(const Tensor& before, const Tensor& dy, Grads& grads) {
  const Tensor dbefore = is_sole_owner(dy) ? dy : empty_like(dy);
  const ops::TypedSlot dbias(grads, 2, dy.dtype() == DType::f64 ? DType::f64 : DType::f32);
  ops::launch_with_workspace(dy,
                             kernels::ActivationBackward{.x = rows(before),
                                                         .dy = rows(dy),
                                                         .dx = rows(dbefore),
                                                         .kind = kernels::ActivationKind::gelu_tanh,
                                                         .write = GradWrite::overwrite,
                                                         .column_sum = flat(dbias.dst()),
                                                         .column_sum_write = dbias.write()});
  dbias.hand_over();
  return dbefore;
}

}  // namespace

Var linear(const Var& input, const Var& weight, const Var& bias) {
  constexpr std::string_view kOp = "linear";
  expect_linear_operands(kOp, input.value(), weight.value(), bias.value());
  const Tensor x = ops::row_strided(input.value()), w = ops::row_strided(weight.value());
  const Tensor y = empty(x.shape().with(-1, w.dim(0)), x.dtype(), x.device());
  const SavedLinear saved = save(input, x, weight, w);
  kernels::Gemm args{};
  args.a = rows(x);
  args.b = rows(w);
  args.d = rows(y);
  args.transpose_b = true;
  args.bias = flat(bias.value());
  args.allow_tf32 = saved.tf32;
  ops::launch_with_workspace(x, args);

  const Var result =
      record(kOp, {input, weight, bias}, {y}, [saved](std::span<const Tensor> d, Grads& grads) {
        give_products(saved, d[0], grads);
        give_bias_gradient(d[0], grads);
      })[0];
  if (bias.requires_grad()) ask_for_column_sum(result);
  return result;
}

Var linear_gelu(const Var& input, const Var& weight, const Var& bias, Output output) {
  constexpr std::string_view kOp = "linear_gelu";
  expect_linear_operands(kOp, input.value(), weight.value(), bias.value());
  const Tensor x = ops::row_strided(input.value()), w = ops::row_strided(weight.value());
  const Tensor before = empty(x.shape().with(-1, w.dim(0)), x.dtype(), x.device());
  // Made again it comes from `before`, as it was rounded: it must do so the first time as well.
  const bool is_fused = output == Output::kept;
  Tensor y = is_fused ? empty_like(before) : Tensor();
  const SavedLinear saved = save(input, x, weight, w);
  kernels::Gemm args{};
  args.a = rows(x);
  args.b = rows(w);
  args.d = rows(is_fused ? y : before);
  args.transpose_b = true;
  args.bias = flat(bias.value());
  if (is_fused) {
    args.has_activation = true;
    args.activation = kernels::ActivationKind::gelu_tanh;
    args.pre_activation = rows(before);
  }
  args.allow_tf32 = saved.tf32;
  ops::launch_with_workspace(x, args);
  if (!is_fused) y = gelu_of(before);

  const Var result = record(kOp, {input, weight, bias}, {y},
                            [saved, before](std::span<const Tensor> d, Grads& grads) {
                              give_products(saved, gelu_backward(before, d[0], grads), grads);
                            })[0];
  if (!is_fused) recompute_output(result, [before] { return gelu_of(before); });
  return result;
}

}  // namespace lamina
