// SPDX-License-Identifier: MIT
// layer_norm and rms_norm, alone and after the addition to the residual stream: one kernel family.
#include "core/kernels/layer_norm.h"

#include "autograd/ops.h"
#include "autograd/ops/support.h"
#include "autograd/saved_tensor.h"
#include "core/kernels/dropout.h"

#include <optional>
#include <string_view>

namespace lamina {
namespace {

/// What both backward passes, and making the result again, need from the forward pass.
struct SavedNorm {
  kernels::Norm norm;
  Tensor x;  // what was normalised
  Tensor weight, bias, mean, rstd;
  double eps;
};

void expect_rows(std::string_view op, const Tensor& x) {
  ops::expect_operand(op, "x", x);
  expect_rank(op, "x", x, 1);
}

/// `y` is the result or has its shape, dtype and device.
void expect_parameters(std::string_view op, const Tensor& weight, const Tensor& bias,
                       const Tensor& y) {
  ops::expect_norm_parameter(op, "weight", weight, y);
  ops::expect_norm_parameter(op, "bias", bias, y);
  if (weight && bias) expect_dtype(op, "bias", bias, weight.dtype(), "the dtype of weight");
}

/// Whether a residual stream of one dtype, beside rows of another one, is wider in a way that the
/// kernels of the device know.
bool is_wider(DType stream, DType rows, Device device) {
  if (device.kind == DeviceKind::cpu) return stream == DType::f64 && rows == DType::f32;
  return stream == DType::f32 && (rows == DType::f16 || rows == DType::bf16);
}

constexpr std::string_view kWiderStreams =
    "f32 beside f16 and bf16 on CUDA, f64 beside f32 on the CPU";

void expect_residual(std::string_view op, const Tensor& residual, const Tensor& x) {
  expect_defined(op, "residual", residual);
  expect_shape(op, "residual", residual, x.shape(), "the shape of x");
  expect_same_device(op, "residual", residual, "x", x);
  if (is_wider(residual.dtype(), x.dtype(), x.device())) return;
  expect_dtype(op, "residual", residual, x.dtype(),
               cat("the dtype of x; the residual may be wider: ", kWiderStreams));
}

/// Throws unless x can be normalised to `dtype`.
void expect_result_dtype(std::string_view op, DType dtype, const Tensor& x) {
  if (dtype == x.dtype() || is_wider(x.dtype(), dtype, x.device())) return;
  throw DTypeError(cat(op, ": dtype is ", dtype, ", expected ", x.dtype(),
                       " (the dtype of x; x may be wider: ", kWiderStreams, ")"));
}

/// With vectors for the mean and rstd of the rows of x if there will be a backward pass, which
/// reads them.
SavedNorm saved_norm(kernels::Norm norm, const Tensor& x, const Var& weight, const Var& bias,
                     double eps, bool is_recorded) {
  const auto statistic = [&](bool is_read) {
    return is_read ? empty({rows(x).rows}, accumulation_dtype(x.dtype()), x.device()) : Tensor();
  };
  return {.norm = norm,
          .x = x,
          .weight = weight.value(),
          .bias = bias.value(),
          .mean = statistic(is_recorded && norm == kernels::Norm::layer),
          .rstd = statistic(is_recorded),
          .eps = eps};
}

/// Completes `args` and launches it.
void launch_forward(const SavedNorm& saved, kernels::LayerNorm args, const Tensor& y) {
  args.norm = saved.norm;
  args.weight = flat(saved.weight);
  args.bias = flat(saved.bias);
  args.y = rows(y);
  args.mean = flat(saved.mean);
  args.rstd = flat(saved.rstd);
  args.eps = saved.eps;
  launch(stream_of(y), args);
}

void normalise(const SavedNorm& saved, const Tensor& y) {
  kernels::LayerNorm args{};
  args.x = rows(saved.x);
  launch_forward(saved, args, y);
}

/// What add_and_normalise() made of the sum, by the same kernel: the one without a residual may add
/// a row up in another order.
void normalise_again(const SavedNorm& saved, const Tensor& y) {
  const Tensor nothing = full({y.dim(-1)}, -0.0, y.dtype(), y.device());
  kernels::LayerNorm args{};  // x + -0 is x: the sum is written over with its own bits
  args.residual = args.sum = rows(saved.x);
  args.x = rows(y);
  args.x.data = nothing.data();
  args.x.stride = 0;
  launch_forward(saved, args, y);
}

/// Lets `fill`, one of the two above, make the result again.
void recompute_normalised(const Var& result, const SavedNorm& saved,
                          void (*fill)(const SavedNorm& saved, const Tensor& y)) {
  recompute_output(result, [saved, dtype = result.dtype(), fill] {
    const Tensor y = empty(saved.x.shape(), dtype, saved.x.device());
    fill(saved, y);
    return y;
  });
}

/// Whether the kernels see no difference to a new tensor: they choose by alignment and pitch.
bool lies_like_new(const Tensor& tensor) {
  return tensor.is_contiguous() && tensor.data() == tensor.storage()->data();
}

/// Completes `args` with the saved tensors and the slots of weight and bias, and launches it.
void launch_backward(const SavedNorm& saved, kernels::LayerNormBackward args, Grads& grads,
                     int weight_input, int bias_input) {
  const GradSlot dweight = grads.slot(weight_input);
  // The kernel writes one dtype to both; they differ only if one is a parameter and one is not.
  const DType dtype = dweight.dst ? dweight.dst.dtype() : accumulation_dtype(args.dy.dtype);
  const ops::TypedSlot dbias(grads, bias_input, dtype);
  args.norm = saved.norm;
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

Var normalised(std::string_view op, kernels::Norm norm, const Var& input, const Var& weight,
               const Var& bias, double eps, std::optional<DType> dtype, Output output) {
  expect_rows(op, input.value());
  if (dtype) expect_result_dtype(op, *dtype, input.value());
  const Tensor x = ops::row_strided(input.value());
  const Tensor y = empty(x.shape(), dtype.value_or(x.dtype()), x.device());
  expect_parameters(op, weight.value(), bias.value(), y);
  ops::expect_eps(op, eps);
  const SavedNorm saved =
      saved_norm(norm, x, weight, bias, eps, will_record({&input, &weight, &bias}));
  normalise(saved, y);

  const Var result =
      record(op, {input, weight, bias}, {y}, [saved](std::span<const Tensor> d, Grads& grads) {
        const ops::TypedSlot dx(grads, 0, saved.x.dtype());
        kernels::LayerNormBackward args{};
        args.dy = rows(d[0]);
        args.dx = rows(dx.dst());
        args.dx_write = dx.write();
        launch_backward(saved, args, grads, 1, 2);
        dx.hand_over();
      })[0];
  if (output == Output::recomputed) recompute_normalised(result, saved, normalise);
  return result;
}

AddNormResult add_and_normalise(std::string_view op, kernels::Norm norm, const Var& residual,
                                const Var& x, const Var& weight, const Var& bias, double eps,
                                double p, Generator* generator, Output output) {
  expect_rows(op, x.value());
  expect_parameters(op, weight.value(), bias.value(), x.value());
  expect_residual(op, residual.value(), x.value());
  ops::expect_eps(op, eps);
  expect_probability(op, "p", p);
  if (p > 0.0 && !generator) {
    throw Error(cat(op, ": p is ", p, " without a generator, expected one (it makes the mask)"));
  }
  const auto drop_p = static_cast<float>(p);
  const PhiloxKey key = p > 0.0 ? generator->next() : PhiloxKey{};
  const Tensor x_rows = ops::row_strided(x.value());
  const Tensor residual_rows = ops::row_strided(residual.value());
  const Tensor sum = empty_like(residual_rows), y = empty_like(x_rows);
  const SavedNorm saved =
      saved_norm(norm, sum, weight, bias, eps, will_record({&residual, &x, &weight, &bias}));
  kernels::LayerNorm forward{};
  forward.x = rows(x_rows);
  forward.residual = rows(residual_rows);
  forward.sum = rows(sum);
  forward.drop_p = drop_p;
  forward.key = key;
  launch_forward(saved, forward, y);

  auto outputs = record(
      op, {residual, x, weight, bias}, {sum, y},
      [saved, drop_p, key](std::span<const Tensor> d, Grads& grads) {
        const Tensor &dsum = d[0], &dy = d[1];
        const bool drops = drop_p > 0.0F && grads.wants(1);
        if (!dy) {  // only the sum was used
          grads.give(0, dsum, grads.column_sum(0));
          if (!drops) return grads.give(1, dsum, grads.column_sum(0));
          const Tensor dropped = empty_like(dsum);
          launch(stream_of(dsum),
                 kernels::Dropout{.x = rows(dsum), .y = rows(dropped), .p = drop_p, .key = key});
          return grads.give(1, dropped);
        }
        // Without dropout and in one dtype, one tensor is the gradient of both.
        const bool is_shared = !drops && dy.dtype() == saved.x.dtype();
        const Tensor dx_drop = grads.wants(1) && !is_shared ? empty_like(dy) : Tensor();
        // It is handed over, in the memory of an incoming one if nobody else holds that.
        const bool needs_dx = grads.wants(0) || (grads.wants(1) && is_shared);
        Tensor dx;
        if (needs_dx && dsum && is_sole_owner(dsum)) {
          dx = dsum;
        } else if (needs_dx && dy.dtype() == saved.x.dtype() && is_sole_owner(dy)) {
          dx = dy;
        } else if (needs_dx) {
          dx = empty_like(saved.x);
        }
        const Tensor column_sum =
            grads.wants(1) ? empty({dy.dim(-1)}, accumulation_dtype(saved.x.dtype()), dy.device())
                           : Tensor();
        kernels::LayerNormBackward args{};
        args.dy = rows(dy);
        args.dsum = rows(dsum);
        args.dx = rows(dx);
        args.dx_drop = rows(dx_drop);
        args.column_sum = flat(column_sum);
        args.drop_p = drops ? drop_p : 0.0F;
        args.key = key;
        launch_backward(saved, args, grads, 2, 3);
        grads.give(0, dx, is_shared ? column_sum : Tensor());
        grads.give(1, is_shared ? dx : dx_drop, column_sum);
      });
  if (output == Output::recomputed && lies_like_new(residual_rows) && lies_like_new(x_rows)) {
    recompute_normalised(outputs[1], saved, normalise_again);
  }
  return {outputs[0], outputs[1]};
}

}  // namespace

Var layer_norm(const Var& x, const Var& weight, const Var& bias, double eps,
               std::optional<DType> dtype, Output output) {
  return normalised("layer_norm", kernels::Norm::layer, x, weight, bias, eps, dtype, output);
}

Var rms_norm(const Var& x, const Var& weight, double eps, std::optional<DType> dtype,
             Output output) {
  return normalised("rms_norm", kernels::Norm::rms, x, weight, {}, eps, dtype, output);
}

AddNormResult add_layer_norm(const Var& residual, const Var& x, const Var& weight, const Var& bias,
                             double eps, double p, Generator* generator, Output output) {
  return add_and_normalise("add_layer_norm", kernels::Norm::layer, residual, x, weight, bias, eps,
                           p, generator, output);
}

AddNormResult add_rms_norm(const Var& residual, const Var& x, const Var& weight, double eps,
                           double p, Generator* generator, Output output) {
  return add_and_normalise("add_rms_norm", kernels::Norm::rms, residual, x, weight, {}, eps, p,
                           generator, output);
}

}  // namespace lamina
