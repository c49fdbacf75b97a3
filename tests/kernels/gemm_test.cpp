// SPDX-License-Identifier: MIT
// cuBLASLt products, bias and activation against the CPU kernel in f64. The allowed error follows
// from sum(|a| |b|): f32 sums of k terms in an unknown order, tensor cores that truncate, and one
// rounding to the dtype of d per value that is stored.
#include "core/kernels/gemm.h"

#include "core/launch.h"
#include "tests/support/bounds.h"
#include "tests/support/cuda_case.h"
#include "tests/support/tolerance.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <ostream>
#include <string>

namespace lamina::testing {
namespace {

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

std::ostream& operator<<(std::ostream& out, const GemmCase& c) {
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

struct Operands {
  Tensor a, b, d, bias, pre_activation;
};

/// The call of a case on operands that lie anywhere; the matrices of a batch follow each other.
kernels::Gemm make_args(const GemmCase& c, const Operands& operands) {
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

void launch_with_workspace(kernels::Gemm args, const Tensor& on, std::int64_t bytes = -1) {
  const Stream stream = stream_of(on);
  if (bytes < 0) bytes = workspace_bytes_of(stream, args);
  const Tensor workspace = empty({bytes}, DType::u8, on.device());
  if (bytes > 0) args.workspace = flat(workspace);
  launch(stream, args);
  synchronize(stream);
}

/// The case on the CPU in f64; returns d.
std::vector<double> reference(const GemmCase& c, const Operands& operands) {
  launch_with_workspace(make_args(c, operands), operands.d);
  return operands.d.to_vector<double>();
}

Tensor absolute(const Tensor& tensor) {
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

  Operands on_device() const {
    return {.a = a.tensor(),
            .b = b.tensor(),
            .d = d.tensor(),
            .bias = bias.tensor(),
            .pre_activation = pre_activation.tensor()};
  }
};

/// The largest error that f32 sums of k products may have, as a multiple of sum(|a| |b|).
double sum_error(const GemmCase& c) {
  constexpr double kEpsilon = 0x1p-23;
  const double steps = std::sqrt(static_cast<double>(c.k));
  if (c.dtype != DType::f32) return (16.0 + 2.0 * steps) * kEpsilon;
  return (4.0 + steps) * kEpsilon + (c.allow_tf32 ? 0x1p-10 : 0.0);
}

class CudaGemm : public CudaTestWith<GemmCase> {};

TEST_P(CudaGemm, MatchesTheCpu) {
  const GemmCase& c = GetParam();
  const Fixture device(c);
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
  const auto sum =
      reference(plain, {.a = a, .b = b, .d = initial(), .bias = bias, .pre_activation = {}});
  const auto want =
      reference(c, {.a = a, .b = b, .d = initial(), .bias = bias, .pre_activation = {}});
  GemmCase magnitude = plain;
  magnitude.write = GradWrite::overwrite;
  magnitude.alpha = std::abs(c.alpha);
  const auto terms = reference(magnitude, {.a = absolute(a),
                                           .b = absolute(b),
                                           .d = zeros(out, DType::f64),
                                           .bias = {},
                                           .pre_activation = {}});

  const std::vector<double> start = initial().to_vector<double>();
  launch_with_workspace(make_args(c, device.on_device()), device.d.tensor(), c.workspace);

  std::vector<double> sum_bound(terms.size());
  std::vector<double> bound(terms.size());
  for (std::size_t i = 0; i < terms.size(); ++i) {
    // A bias that is added by a second kernel, and an activation, read a product that was rounded;
    // some kernels of cuBLASLt round it before they add it to a 16-bit d.
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
  EXPECT_TRUE(all_within(device.d.values(), want, bound));
  EXPECT_TRUE(device.d.guards_intact());
  if (c.keep_pre_activation) {
    EXPECT_TRUE(all_within(device.pre_activation.values(), sum, sum_bound));
    EXPECT_TRUE(device.pre_activation.guards_intact());
  }
}

TEST_P(CudaGemm, GivesTheSameBitsEachTime) {
  const GemmCase& c = GetParam();
  const Fixture first(c);
  const Fixture second(c);
  for (const Fixture* fixture : {&first, &second}) {
    launch_with_workspace(make_args(c, fixture->on_device()), fixture->d.tensor(), c.workspace);
  }
  EXPECT_EQ(first.d.values(), second.d.values());
}

struct Precision {
  DType dtype, d_dtype;
};

constexpr Precision kPrecisions[] = {{DType::f32, DType::f32},
                                     {DType::f16, DType::f16},
                                     {DType::bf16, DType::bf16},
                                     {DType::f16, DType::f32},
                                     {DType::bf16, DType::f32}};

std::vector<GemmCase> transposed_cases() {
  constexpr std::int64_t kSizes[][3] = {{1, 1, 1},     {2, 3, 5},       {17, 33, 65}, {64, 64, 64},
                                        {129, 65, 31}, {256, 384, 512}, {8, 16, 4096}};
  std::vector<GemmCase> cases;
  for (const auto& [m, n, k] : kSizes) {
    for (const Precision& precision : kPrecisions) {
      for (const int transposes : {0, 1, 2, 3}) {
        cases.push_back({.m = m,
                         .n = n,
                         .k = k,
                         .dtype = precision.dtype,
                         .d_dtype = precision.d_dtype,
                         .transpose_a = transposes % 2 == 1,
                         .transpose_b = transposes / 2 == 1});
      }
    }
  }
  cases.push_back({.m = 1024, .n = 1536, .k = 768, .transpose_b = true});
  cases.push_back({.m = 1, .n = 1024, .k = 768, .transpose_b = true});
  cases.push_back({.m = 1024, .n = 1, .k = 768});
  return cases;
}

/// Variations of one call, for every pair of dtypes.
std::vector<GemmCase> option_cases() {
  constexpr auto kAdd = GradWrite::accumulate;
  const GemmCase variations[] = {
      {.m = 48, .n = 40, .k = 24, .alpha = -0.375F},
      {.m = 48, .n = 40, .k = 24, .write = kAdd},
      {.m = 33, .n = 17, .k = 9, .transpose_a = true, .alpha = 0.5F, .write = kAdd},
      {.m = 48, .n = 40, .k = 24, .layout = {.pad = 8}},
      {.m = 48, .n = 40, .k = 24, .transpose_b = true, .layout = {.pad = 3}},
      {.m = 48, .n = 40, .k = 24, .layout = {.shift = 1, .pad = 1}},
      {.m = 48, .n = 40, .k = 24, .bias = Bias::same_dtype, .layout = {.shift = 1, .pad = 7}},
      {.m = 48, .n = 40, .k = 24, .batch = 3},
      {.m = 17, .n = 9, .k = 5, .transpose_a = true, .batch = 4, .write = kAdd},
      {.m = 48, .n = 40, .k = 24, .transpose_b = true, .batch = 3, .repeat_b = true},
      {.m = 48, .n = 40, .k = 24, .bias = Bias::same_dtype},
      {.m = 48, .n = 40, .k = 24, .bias = Bias::f32},
      {.m = 5, .n = 41, .k = 24, .bias = Bias::f32},
      {.m = 48, .n = 40, .k = 24, .write = kAdd, .bias = Bias::same_dtype},
      {.m = 48, .n = 40, .k = 24, .write = kAdd, .bias = Bias::f32},
      {.m = 48, .n = 40, .k = 24, .batch = 3, .bias = Bias::f32},
      {.m = 256, .n = 128, .k = 4096, .workspace = 0},
      {.m = 256, .n = 128, .k = 4096, .workspace = 100000},
      {.m = 7, .n = 24, .k = 0},
      {.m = 7, .n = 24, .k = 0, .bias = Bias::same_dtype, .layout = {.pad = 8}},
      {.m = 7, .n = 24, .k = 0, .write = kAdd, .bias = Bias::f32},
      {.m = 0, .n = 24, .k = 8},
      {.m = 7, .n = 0, .k = 8},
  };
  std::vector<GemmCase> cases;
  for (const Precision& precision : kPrecisions) {
    for (GemmCase variation : variations) {
      variation.dtype = precision.dtype;
      variation.d_dtype = precision.d_dtype;
      cases.push_back(variation);
    }
  }
  cases.push_back({.m = 256,
                   .n = 128,
                   .k = 512,
                   .dtype = DType::f32,
                   .d_dtype = DType::f32,
                   .allow_tf32 = true});
  return cases;
}

std::vector<GemmCase> activation_cases() {
  std::vector<GemmCase> cases;
  for (const Precision& precision : kPrecisions) {
    for (const ActivationKind kind : {ActivationKind::relu, ActivationKind::gelu_tanh,
                                      ActivationKind::gelu_erf, ActivationKind::silu}) {
      for (const Bias bias : {Bias::none, Bias::same_dtype, Bias::f32}) {
        for (const bool keep : {false, true}) {
          for (const std::int64_t cols : {64, 37}) {  // with and without 16-byte vectors
            cases.push_back({.m = 50,
                             .n = cols,
                             .k = 16,
                             .dtype = precision.dtype,
                             .d_dtype = precision.d_dtype,
                             .bias = bias,
                             .activation = kind,
                             .keep_pre_activation = keep});
          }
        }
      }
    }
    cases.push_back({.m = 9,
                     .n = 1160,
                     .k = 16,
                     .dtype = precision.dtype,
                     .d_dtype = precision.d_dtype,
                     .batch = 2,
                     .bias = Bias::same_dtype,
                     .activation = ActivationKind::silu,
                     .keep_pre_activation = true,
                     .layout = {.pad = 8}});
  }
  return cases;
}

std::string name_of_case(const ::testing::TestParamInfo<GemmCase>& info) {
  return cat(info.index, "_", info.param);
}

INSTANTIATE_TEST_SUITE_P(Transposed, CudaGemm, ::testing::ValuesIn(transposed_cases()),
                         name_of_case);
INSTANTIATE_TEST_SUITE_P(Options, CudaGemm, ::testing::ValuesIn(option_cases()), name_of_case);
INSTANTIATE_TEST_SUITE_P(Activation, CudaGemm, ::testing::ValuesIn(activation_cases()),
                         name_of_case);

class CudaGemmContract : public CudaTest {};

TEST_F(CudaGemmContract, MultipliesF32ExactlyUnlessTf32IsAllowed) {
  // 1 + 2^-12 needs 12 bits of mantissa; TF32 keeps 10 and would lose the fraction. All sums are
  // exact.
  const GemmCase c{.m = 64, .n = 64, .k = 64, .dtype = DType::f32, .d_dtype = DType::f32};
  const double value = 1.0 + 0x1p-12;
  const CudaTensor a(std::vector<double>(64 * 64, value), {64, 64}, DType::f32);
  const CudaTensor b(std::vector<double>(64 * 64, 1.0), {64, 64}, DType::f32);
  const CudaTensor d = CudaTensor::poisoned({64, 64}, DType::f32);
  launch_with_workspace(
      make_args(
          c, {.a = a.tensor(), .b = b.tensor(), .d = d.tensor(), .bias = {}, .pre_activation = {}}),
      d.tensor());
  EXPECT_EQ(d.values(), std::vector<double>(64 * 64, 64.0 * value));
}

TEST_F(CudaGemmContract, LeavesDAloneWhenTheWriteIsSkipped) {
  GemmCase c{.m = 8, .n = 8, .k = 8};
  const Fixture device(c);
  const CudaTensor d(std::vector<double>(64, 3.0), {8, 8}, DType::bf16);
  c.write = GradWrite::skip;
  Operands operands = device.on_device();
  operands.d = d.tensor();
  launch_with_workspace(make_args(c, operands), d.tensor());
  EXPECT_EQ(d.values(), std::vector<double>(64, 3.0));
}

TEST_F(CudaGemmContract, RejectsADtypeThatCudaDoesNotMultiply) {
  const GemmCase c{.m = 8, .n = 8, .k = 8, .dtype = DType::f64, .d_dtype = DType::f64};
  const Fixture device(c);
  EXPECT_THROW(launch_with_workspace(make_args(c, device.on_device()), device.d.tensor()),
               DTypeError);
}

}  // namespace
}  // namespace lamina::testing
