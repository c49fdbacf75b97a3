// SPDX-License-Identifier: MIT
// LayerNorm and RmsNorm beside a residual stream that is wider than the rows: f64 beside f32 on the
// CPU, f32 beside f16 and bf16 on CUDA. The oracle is the same program with everything in f64.
#include "nn/layer_norm.h"

#include "core/kernels/layer_norm.h"
#include "nn/rms_norm.h"
#include "tests/support/cuda_case.h"
#include "tests/support/tolerance.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <span>
#include <vector>

namespace lamina {
namespace {

using kernels::Norm;
using testing::relative_l2;

struct Precision {
  Device device;
  DType rows, stream;
  double tolerance;  // relative, of norms
};

std::ostream& operator<<(std::ostream& out, const Precision& precision) {
  return out << precision.rows << "_beside_" << precision.stream;
}

constexpr std::int64_t kRows = 37, kCols = 136;

Tensor sample(const Shape& shape, std::uint64_t seed, const Precision& as) {
  Generator generator(seed);
  // Rounded to the rows' dtype, so that every precision sees the same numbers.
  return from_vector(testing::normal_values(shape.elements(), generator), shape).to(as.rows);
}

Tensor normal_rows(const Shape& shape, std::uint64_t seed) {
  return sample(shape, seed, {kCpu, DType::f32, DType::f32, 0.0});
}

/// What a call computes: outputs, then gradients.
struct Results {
  std::vector<std::vector<double>> values;
  std::vector<DType> dtypes;

  void add(const Tensor& tensor) {
    values.push_back(tensor.to_vector<double>());
    dtypes.push_back(tensor.dtype());
  }
};

enum class Used { sum, normalized, both };

/// Runs add_layer_norm or add_rms_norm behind a linear layer, whose bias takes the column sum, and
/// differentiates.
Results add_and_normalize(Norm norm, const Precision& on, const Precision& data, double p,
                          Used used) {
  const auto parameter = [&](const Tensor& value, DType dtype) {
    return Var::parameter(value.to(dtype).to(on.device));
  };
  const Var residual = parameter(sample({kRows, kCols}, 1, data), on.stream);
  const Var features = parameter(sample({kRows, 8}, 2, data), on.rows);
  const Var project = parameter(sample({kCols, 8}, 3, data), on.rows);
  const Var shift = parameter(sample({kCols}, 4, data), on.rows);
  const Var weight = parameter(sample({kCols}, 5, data), on.rows);
  const Var bias = parameter(sample({kCols}, 6, data), on.rows);
  Generator generator(7);
  const Var x = linear(features, project, shift);
  const auto [sum, y] = norm == Norm::layer
                            ? add_layer_norm(residual, x, weight, bias, 1e-5, p, &generator)
                            : add_rms_norm(residual, x, weight, 1e-5, p, &generator);
  const Tensor dsum = sample({kRows, kCols}, 8, data).to(on.stream).to(on.device);
  const Tensor dy = sample({kRows, kCols}, 9, data).to(on.rows).to(on.device);
  if (used == Used::sum) {
    backward(sum, dsum);
  } else if (used == Used::normalized) {
    backward(y, dy);
  } else {  // one value that depends on both, whose gradients are given
    const auto both = record("pair", {sum, y}, {zeros({}, DType::f32, on.device)},
                             [dsum, dy](std::span<const Tensor>, Grads& grads) {
                               grads.give(0, dsum);
                               grads.give(1, dy);
                             });
    backward(both[0]);
  }
  Results results;
  results.add(sum.value());
  results.add(y.value());
  for (const Var* var : {&residual, &features, &project, &shift, &weight, &bias}) {
    if (var->grad()) results.add(var->grad());
  }
  return results;
}

void expect_same(const Results& got, const Results& want, double tolerance) {
  ASSERT_EQ(got.values.size(), want.values.size());
  for (std::size_t i = 0; i < got.values.size(); ++i) {
    EXPECT_LE(relative_l2(got.values[i], want.values[i]), tolerance) << "result " << i;
  }
}

/// Plain normalisation of a wide stream to narrow rows, and its gradients.
Results normalize(Norm norm, const Precision& on, const Precision& data) {
  const Var x = Var::parameter(sample({kRows, kCols}, 1, data).to(on.stream).to(on.device));
  const Var weight = Var::parameter(sample({kCols}, 2, data).to(on.rows).to(on.device));
  const Var bias = Var::parameter(sample({kCols}, 3, data).to(on.rows).to(on.device));
  const Var y = norm == Norm::layer ? layer_norm(x, weight, bias, 1e-5, on.rows)
                                    : rms_norm(x, weight, 1e-5, on.rows);
  backward(y, sample({kRows, kCols}, 4, data).to(on.rows).to(on.device));
  Results results;
  for (const Tensor& tensor : {y.value(), x.grad(), weight.grad()})
    results.add(tensor);
  if (norm == Norm::layer) results.add(bias.grad());
  return results;
}

void check(const Precision& mixed) {
  const Precision wide{kCpu, DType::f64, DType::f64, 0.0};
  for (const Norm norm : {Norm::layer, Norm::rms}) {
    for (const double p : {0.0, 0.3}) {
      for (const Used used : {Used::sum, Used::normalized, Used::both}) {
        SCOPED_TRACE(
            cat(mixed, " rms ", norm == Norm::rms, " p ", p, " used ", static_cast<int>(used)));
        const Results got = add_and_normalize(norm, mixed, mixed, p, used);
        expect_same(got, add_and_normalize(norm, wide, mixed, p, used), mixed.tolerance);
        EXPECT_EQ(got.dtypes[0], mixed.stream) << "sum";
        EXPECT_EQ(got.dtypes[1], mixed.rows) << "normalized";
        EXPECT_EQ(got.dtypes[2], mixed.stream) << "gradient of residual";
      }
    }
    const Results got = normalize(norm, mixed, mixed);
    expect_same(got, normalize(norm, wide, mixed), mixed.tolerance);
    EXPECT_EQ(got.dtypes[0], mixed.rows);
    EXPECT_EQ(got.dtypes[1], mixed.stream);
  }
}

TEST(LayerNormStream, AgreesWithF64WhenTheStreamIsWider) {
  check({kCpu, DType::f32, DType::f64, 1e-6});
}

using CudaLayerNormStream = testing::CudaTest;

TEST_F(CudaLayerNormStream, AgreesWithF64WhenTheStreamIsWider) {
  // Of the rows, x is rounded once after the product, and each gradient once.
  check({testing::kCuda, DType::bf16, DType::f32, 1e-2});
  check({testing::kCuda, DType::f16, DType::f32, 2e-3});
}

TEST(LayerNormStream, KeepsSmallUpdatesThatTheRowsCannotHold) {
  const Tensor residual = full({2, 4}, 1.0, DType::f64), x = full({2, 4}, 1e-9, DType::f32);
  const auto [sum, y] = add_layer_norm(residual, x, {}, {});
  for (const double value : sum.value().to_vector<double>())
    EXPECT_EQ(value, 1.0 + double{1e-9F});
}

TEST(LayerNormStream, GivesTheGradientOfXAloneInItsOwnDType) {
  const Precision data{kCpu, DType::f32, DType::f64, 0.0};
  const Tensor residual = sample({5, 12}, 1, data), start = sample({5, 12}, 2, data);
  const Tensor dy = sample({5, 12}, 3, data);
  const auto gradient = [&](DType rows) {
    const Var x = Var::parameter(start.to(rows));
    backward(add_layer_norm(residual.to(DType::f64), x, {}, {}).normalized, dy.to(rows));
    EXPECT_EQ(x.grad().dtype(), rows);
    return x.grad().to_vector<double>();
  };
  EXPECT_LE(relative_l2(gradient(DType::f32), gradient(DType::f64)), 1e-7);
}

TEST(LayerNormStream, ComputesTheSameWithoutGradients) {
  const Precision data{kCpu, DType::f32, DType::f64, 0.0};
  const Var residual = Var::parameter(sample({5, 12}, 1, data).to(DType::f64));
  const Tensor x = sample({5, 12}, 2, data);
  const auto results = [&] {
    const auto [sum, y] = add_layer_norm(residual, x, {}, {});
    const Var plain = layer_norm(residual, {}, {}, 1e-5, DType::f32);
    const Var rms = rms_norm(residual, {});
    std::vector<std::vector<double>> values;
    for (const Var& result : {sum, y, plain, rms})
      values.push_back(result.value().to_vector<double>());
    return values;
  };
  const auto recorded = results();
  const NoGrad scope;
  EXPECT_EQ(results(), recorded);
}

TEST(LayerNorm, ReturnsTheDTypeOfItsOptions) {
  nn::LayerNorm norm(12, {.dtype = DType::f32});
  const Precision data{kCpu, DType::f32, DType::f64, 0.0};
  const Tensor x = sample({5, 12}, 1, data).to(DType::f64);
  const Var y = norm(x);
  EXPECT_EQ(y.dtype(), DType::f32);
  EXPECT_EQ(nn::LayerNorm(12)(x.to(DType::f32)).dtype(), DType::f32);
  const auto [sum, normalized] = norm.add_and_normalize(x, x.to(DType::f32));
  EXPECT_EQ(sum.dtype(), DType::f64);
  EXPECT_EQ(normalized.dtype(), DType::f32);
}

TEST(RmsNormLayer, IsTheOpWithItsWeightAndDropsInTrainingOnly) {
  nn::RmsNorm norm(12, {.eps = 1e-3});
  norm.weight.set_value(normal_rows({12}, 1));
  const Var x = normal_rows({5, 12}, 2), residual = normal_rows({5, 12}, 3);
  const auto expect_equal = [](const Var& got, const Var& want) {
    EXPECT_EQ(got.value().to_vector<float>(), want.value().to_vector<float>());
  };
  expect_equal(norm(x), rms_norm(x, norm.weight, 1e-3));
  const auto [sum, y] = norm.add_and_normalize(residual, x);
  expect_equal(sum, residual + x);
  expect_equal(y, rms_norm(sum, norm.weight, 1e-3));
  Generator generator(4), again(4);
  expect_equal(norm.add_and_normalize(residual, x, 0.5, generator).normalized,
               add_rms_norm(residual, x, norm.weight, 1e-3, 0.5, &again).normalized);
  norm.eval();
  expect_equal(norm.add_and_normalize(residual, x, 0.5, generator).sum, sum);
}

}  // namespace
}  // namespace lamina
