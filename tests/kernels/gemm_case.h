// SPDX-License-Identifier: MIT
// A matrix product for tests on CUDA: its operands, what the CPU kernel makes of it in f64, and how
// far from that a result may be. The allowed error follows from sum(|a| |b|): f32 sums of k terms
// in an unknown order, tensor cores that truncate, and one rounding to the dtype of d per value
// that is stored.
#pragma once

#include "core/kernels/gemm.h"
#include "core/launch.h"
#include "tests/support/bounds.h"
#include "tests/support/cuda_case.h"
#include "tests/support/tolerance.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <ostream>
#include <vector>

namespace lamina::testing {

using kernels::ActivationKind;

enum class Bias { none, same_dtype, f32 };

struct GemmCase {
  std::int64_t m, n, k;
  DType dtype = DType::bf16;
  DType d_dtype = DType::bf16;
  bool transpose_a = false, transpose_b = false;
  std::int64_t batch = 1;
  bool repeat_b = false;  // one b for all of the batch
  float alpha = 1.0F;
  GradWrite write = GradWrite::overwrite;
  Bias bias = Bias::none;
  std::optional<ActivationKind> activation{};
  bool keep_pre_activation = false;
  Layout layout{};
  bool allow_tf32 = false;
  std::int64_t workspace = -1;  // bytes; -1 = what the kernel wants
};

inline std::ostream& operator<<(std::ostream& out, const GemmCase& c) {
  const auto flag = [&](bool set, const char* text) { out << (set ? text : ""); };
  out << c.m << "x" << c.n << "x" << c.k << "_" << c.dtype << "_to_" << c.d_dtype;
  flag(c.transpose_a, "_ta");
  flag(c.transpose_b, "_tb");
  if (c.batch != 1) out << "_batch" << c.batch;
  flag(c.repeat_b, "_repeat_b");
  flag(c.alpha != 1.0F, "_alpha");
  flag(c.write == GradWrite::accumulate, "_accumulate");
  flag(c.bias == Bias::same_dtype, "_bias");
  flag(c.bias == Bias::f32, "_bias_f32");
  if (c.activation) out << "_activation" << static_cast<int>(*c.activation);
  flag(c.keep_pre_activation, "_kept");
  if (c.layout.shift != 0) out << "_shift" << c.layout.shift;
  if (c.layout.pad != 0) out << "_pad" << c.layout.pad;
  flag(c.allow_tf32, "_tf32");
  if (c.workspace >= 0) out << "_workspace" << c.workspace;
  return out;
}

struct GemmOperands {
  Tensor a, b, d, bias, pre_activation;
};

/// The call of a case on operands that lie anywhere; the matrices of a batch follow each other.
inline kernels::Gemm make_args(const GemmCase& c, const GemmOperands& operands) {
  const auto one = [](const Tensor& tensor, std::int64_t count) {
    Rows view = rows(tensor);
    view.rows = count;
    return view;
  };
  const Rows a = one(operands.a, c.transpose_a ? c.k : c.m);
  const Rows b = one(operands.b, c.transpose_b ? c.n : c.k);
  const Rows d = one(operands.d, c.m);
  return {.a = a,
          .b = b,
          .d = d,
          .transpose_a = c.transpose_a,
          .transpose_b = c.transpose_b,
          .alpha = c.alpha,
          .write = c.write,
          .bias = flat(operands.bias),
          .has_activation = c.activation.has_value(),
          .activation = c.activation.value_or(ActivationKind::gelu_tanh),
          .pre_activation = operands.pre_activation ? one(operands.pre_activation, c.m) : Rows{},
          .batch = c.batch,
          .stride_a = a.rows * a.stride,
          .stride_b = c.repeat_b ? 0 : b.rows * b.stride,
          .stride_d = d.rows * d.stride,
          .allow_tf32 = c.allow_tf32};
}

inline void launch_with_workspace(kernels::Gemm args, const Tensor& on, std::int64_t bytes = -1) {
  const Stream stream = stream_of(on);
  if (bytes < 0) bytes = workspace_bytes_of(stream, args);
  const Tensor workspace = empty({bytes}, DType::u8, on.device());
  if (bytes > 0) args.workspace = flat(workspace);
  launch(stream, args);
  synchronize(stream);
}

/// The case on the CPU in f64; returns d.
inline std::vector<double> reference(const GemmCase& c, const GemmOperands& operands) {
  launch_with_workspace(make_args(c, operands), operands.d);
  return operands.d.to_vector<double>();
}

inline Tensor absolute(const Tensor& tensor) {
  std::vector<double> values = tensor.to_vector<double>();
  for (double& value : values)
    value = std::abs(value);
  return from_vector(values, tensor.shape());
}

/// The device's operands of a case and their f64 copies, made before the launch.
struct Fixture {
  CudaTensor a, b, d, bias, pre_activation;

  explicit Fixture(const GemmCase& c) {
    Generator generator(7);
    const auto matrices = [&](std::int64_t count, std::int64_t rows_of_one, std::int64_t cols) {
      return CudaTensor::normal({count * rows_of_one, cols}, c.dtype, generator, 1.0, 0.0,
                                c.layout);
    };
    a = matrices(c.batch, c.transpose_a ? c.k : c.m, c.transpose_a ? c.m : c.k);
    b = matrices(c.repeat_b ? 1 : c.batch, c.transpose_b ? c.n : c.k, c.transpose_b ? c.k : c.n);
    const Shape out{c.batch * c.m, c.n};
    d = c.write == GradWrite::accumulate
            ? CudaTensor::normal(out, c.d_dtype, generator, 4.0, 0.0, c.layout)
            : CudaTensor::poisoned(out, c.d_dtype, c.layout);
    if (c.bias != Bias::none) {
      const DType dtype = c.bias == Bias::f32 ? DType::f32 : c.dtype;
      bias = CudaTensor::normal({c.n}, dtype, generator, 2.0, 0.0, {.shift = c.layout.shift});
    }
    if (c.keep_pre_activation) pre_activation = CudaTensor::poisoned(out, c.d_dtype, c.layout);
  }

  GemmOperands on_device() const {
    return {.a = a.tensor(),
            .b = b.tensor(),
            .d = d.tensor(),
            .bias = bias.tensor(),
            .pre_activation = pre_activation.tensor()};
  }
};

/// The largest error that f32 sums of k products may have, as a multiple of sum(|a| |b|).
inline double sum_error(const GemmCase& c) {
  constexpr double kEpsilon = 0x1p-23;
  const double steps = std::sqrt(static_cast<double>(c.k));
  if (c.dtype != DType::f32) return (16.0 + 2.0 * steps) * kEpsilon;
  return (4.0 + steps) * kEpsilon + (c.allow_tf32 ? 0x1p-10 : 0.0);
}

/// What a case must give, made before the launch that changes d.
struct Expectation {
  std::vector<double> want, bound;     // of d
  std::vector<double> sum, sum_bound;  // of the pre-activation

  Expectation(const GemmCase& c, const Fixture& device) {
    const bool adds = c.write == GradWrite::accumulate;
    const Shape out{c.batch * c.m, c.n};
    const Tensor a = device.a.reference();
    const Tensor b = device.b.reference();
    const Tensor bias = device.bias.reference();
    const auto initial = [&] { return adds ? device.d.reference() : zeros(out, DType::f64); };

    GemmCase plain = c;
    plain.bias = Bias::none;
    plain.activation.reset();
    const auto product =
        reference(plain, {.a = a, .b = b, .d = initial(), .bias = {}, .pre_activation = {}});
    sum = reference(plain, {.a = a, .b = b, .d = initial(), .bias = bias, .pre_activation = {}});
    want = reference(c, {.a = a, .b = b, .d = initial(), .bias = bias, .pre_activation = {}});
    GemmCase magnitude = plain;
    magnitude.write = GradWrite::overwrite;
    magnitude.alpha = std::abs(c.alpha);
    const auto terms = reference(magnitude, {.a = absolute(a),
                                             .b = absolute(b),
                                             .d = zeros(out, DType::f64),
                                             .bias = {},
                                             .pre_activation = {}});

    const std::vector<double> start = initial().to_vector<double>();
    sum_bound.resize(terms.size());
    bound.resize(terms.size());
    for (std::size_t i = 0; i < terms.size(); ++i) {
      // A bias that is added by a second kernel, and an activation, read a product that was
      // rounded; some kernels of cuBLASLt round it before they add it to a 16-bit d.
      const bool rounds_twice =
          c.bias != Bias::none || c.activation || (adds && c.d_dtype != DType::f32);
      const double rounding =
          std::max(ulp_of(c.d_dtype, product[i]), ulp_of(c.d_dtype, product[i] - start[i]));
      const double before = sum_error(c) * terms[i] + (rounds_twice ? rounding : 0.0);
      sum_bound[i] = before + ulp_of(c.d_dtype, sum[i]);
      // No slope of an activation exceeds 1.13; its own arithmetic is good to 2^-20.
      bound[i] = c.activation
                     ? 1.13 * before + 0x1p-20 * std::abs(sum[i]) + ulp_of(c.d_dtype, want[i])
                     : sum_bound[i];
    }
  }

  /// After the launch.
  void check(const GemmCase& c, const Fixture& device) const {
    EXPECT_TRUE(all_within(device.d.values(), want, bound));
    EXPECT_TRUE(device.d.guards_intact());
    if (c.keep_pre_activation) {
      EXPECT_TRUE(all_within(device.pre_activation.values(), sum, sum_bound));
      EXPECT_TRUE(device.pre_activation.guards_intact());
    }
  }
};

}  // namespace lamina::testing
