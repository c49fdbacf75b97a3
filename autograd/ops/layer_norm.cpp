// SPDX-License-Identifier: MIT
// layer_norm and add_layer_norm: one kernel family, with and without the residual stream.
#include "core/kernels/layer_norm.h"

#include "autograd/ops.h"
#include "autograd/ops/support.h"
#include "core/kernels/dropout.h"

namespace lamina {
namespace {

/// What both backward passes need from the forward pass.
struct Saved {
  Tensor x;  // what was normalised
  Tensor weight, mean, rstd;
};

void expect_norm_operands(std::string_view op, const Tensor& x, const Tensor& weight,
                          const Tensor& bias) {
  ops::expect_operand(op, "x", x);
  expect_rank(op, "x", x, 1);
  ops::expect_norm_parameter(op, "weight", weight, x);
  ops::expect_norm_parameter(op, "bias", bias, x);
  if (weight && bias) expect_dtype(op, "bias", bias, weight.dtype(), "the dtype of weight");
}

Tensor row_statistic(const Tensor& x) {
  return empty({rows(x).rows}, accumulation_dtype(x.dtype()), x.device());
}

/// Completes `args` with the saved tensors and the slots of weight and bias, and launches it.
void launch_backward(const Saved& saved, kernels::LayerNormBackward args, Grads& grads,
                     int weight_input, int bias_input) {
  const GradSlot dweight = grads.slot(weight_input);
  // The kernel writes one dtype to both; they differ only if one is a parameter and one is not.
  const DType dtype = dweight.dst ? dweight.dst.dtype() : accumulation_dtype(saved.x.dtype());
  const ops::TypedSlot dbias(grads, bias_input, dtype);
  args.x = rows(saved.x);
  args.weight = flat(saved.weight);
  args.mean = flat(saved.mean);
  args.rstd = flat(saved.rstd);
  args.dweight = flat(dweight.dst);
  args.dbias = flat(dbias.dst());
  args.dweight_write = dweight.write;
  args.dbias_write = dbias.write();
  ops::launch_with_workspace(saved.x, args);
  dbias.hand_over();
}

}  // namespace

Var layer_norm(const Var& input, const Var& weight, const Var& bias, double eps) {
  constexpr std::string_view kOp = "layer_norm";
  expect_norm_operands(kOp, input.value(), weight.value(), bias.value());
  const Tensor x = ops::row_strided(input.value());
  const Tensor y = empty_like(x);
  const Saved saved{x, weight.value(), row_statistic(x), row_statistic(x)};
  launch(stream_of(x), kernels::LayerNorm{.x = rows(x),
                                          .residual = {},
                                          .weight = flat(weight.value()),
                                          .bias = flat(bias.value()),
                                          .sum = {},
                                          .y = rows(y),
                                          .mean = flat(saved.mean),
                                          .rstd = flat(saved.rstd),
                                          .eps = eps});

  return record(kOp, {input, weight, bias}, {y}, [saved](std::span<const Tensor> d, Grads& grads) {
    const ops::TypedSlot dx(grads, 0, saved.x.dtype());
    kernels::LayerNormBackward args{};
    args.dy = rows(d[0]);
    args.dx = rows(dx.dst());
    args.dx_write = dx.write();
    launch_backward(saved, args, grads, 1, 2);
    dx.hand_over();
  })[0];
}

AddLayerNormResult add_layer_norm(const Var& residual, const Var& x, const Var& weight,
                                  const Var& bias, double eps, double p, Generator* generator) {
  constexpr std::string_view kOp = "add_layer_norm";
  expect_norm_operands(kOp, x.value(), weight.value(), bias.value());
  expect_shape(kOp, "residual", residual.value(), x.shape(), "the shape of x");
  ops::expect_alike(kOp, "residual", residual.value(), "x", x.value());
  expect_probability(kOp, "p", p);
  if (p > 0.0 && !generator) {
    throw Error(cat(kOp, ": p is ", p, " without a generator, expected one (it makes the mask)"));
  }
  const auto drop_p = static_cast<float>(p);
  const PhiloxKey key = p > 0.0 ? generator->next() : PhiloxKey{};
  const Tensor x_rows = ops::row_strided(x.value());
  const Tensor residual_rows = ops::row_strided(residual.value());
  const Tensor sum = empty_like(x_rows), y = empty_like(x_rows);
  const Saved saved{sum, weight.value(), row_statistic(x_rows), row_statistic(x_rows)};
  launch(stream_of(sum), kernels::LayerNorm{.x = rows(x_rows),
                                            .residual = rows(residual_rows),
                                            .weight = flat(weight.value()),
                                            .bias = flat(bias.value()),
                                            .sum = rows(sum),
                                            .y = rows(y),
                                            .mean = flat(saved.mean),
                                            .rstd = flat(saved.rstd),
                                            .eps = eps,
                                            .drop_p = drop_p,
                                            .key = key});

  auto outputs = record(
      kOp, {residual, x, weight, bias}, {sum, y},
      [saved, drop_p, key](std::span<const Tensor> d, Grads& grads) {
        const Tensor &dsum = d[0], &dy = d[1];
        const bool drops = drop_p > 0.0F && grads.wants(1);
        const Tensor dropped = drops ? empty_like(saved.x) : Tensor();
        if (!dy) {  // only the sum was used
          grads.give(0, dsum, grads.column_sum(0));
          if (!drops) return grads.give(1, dsum, grads.column_sum(0));
          launch(stream_of(dsum),
                 kernels::Dropout{.x = rows(dsum), .y = rows(dropped), .p = drop_p, .key = key});
          return grads.give(1, dropped);
        }
        // One tensor is the gradient of both, so it is handed over, in the memory of an incoming
        // one if nobody else holds that.
        const bool needs_dx = grads.wants(0) || grads.wants(1);
        Tensor dx;
        if (needs_dx && dsum && is_sole_owner(dsum)) {
          dx = dsum;
        } else if (needs_dx) {
          dx = is_sole_owner(dy) ? dy : empty_like(saved.x);
        }
        const Tensor column_sum =
            grads.wants(1) ? empty({dx.dim(-1)}, accumulation_dtype(dx.dtype()), dx.device())
                           : Tensor();
        kernels::LayerNormBackward args{};
        args.dy = rows(dy);
        args.dsum = rows(dsum);
        args.dx = rows(dx);
        args.dx_drop = rows(dropped);
        args.column_sum = flat(column_sum);
        args.drop_p = drops ? drop_p : 0.0F;
        args.key = key;
        launch_backward(saved, args, grads, 2, 3);
        grads.give(0, dx, drops ? Tensor() : column_sum);
        grads.give(1, drops ? dropped : dx, column_sum);
      });
  return {outputs[0], outputs[1]};
}

}  // namespace lamina
