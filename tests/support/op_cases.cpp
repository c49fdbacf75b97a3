// SPDX-License-Identifier: MIT
// The sampler, and the rows of element-by-element ops, softmax and norms.
#include "tests/support/op_cases.h"

#include "tests/support/keep_factor.h"

#include <cmath>
#include <numbers>

namespace lamina::testing {

std::int64_t Sampler::integer(std::int64_t low, std::int64_t high) {
  const auto count = static_cast<std::uint64_t>(high - low + 1);
  return low + static_cast<std::int64_t>(engine_() % count);
}

double Sampler::pick(std::initializer_list<double> values) {
  return values.begin()[integer(0, static_cast<std::int64_t>(values.size()) - 1)];
}

std::int64_t Sampler::row_extent() {
  if (is_large()) return integer(3, 23);
  return index_ == 0 || index_ == 2 ? 1 : static_cast<std::int64_t>(pick({1, 2, 3, 4, 5}));
}

std::int64_t Sampler::col_extent() {
  if (is_large()) return static_cast<std::int64_t>(pick({256, 640, 1031, 1537}));
  if (index_ == 1 || index_ == 2) return 1;
  return static_cast<std::int64_t>(pick({1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33}));
}

Shape Sampler::matrix_shape(int leading) {
  std::vector<std::int64_t> extents;
  for (std::int64_t i = integer(1, leading); i > 0; --i)
    extents.push_back(row_extent());
  extents.push_back(col_extent());
  return Shape(extents);
}

Tensor Sampler::normal(const Shape& shape) {
  Generator generator(engine_());
  return randn(shape, generator, DType::f64);
}

Tensor Sampler::spread(const Shape& shape) {
  Values values = normal(shape).to_vector<double>();
  const auto cols = static_cast<std::size_t>(shape[-1]);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = 0.3 * values[i] + ((i / cols + i % cols) % 2 == 0 ? 1.5 : -1.5);
    if (std::abs(values[i]) < 0.05) values[i] = 0.05;
  }
  return from_vector(values, shape);
}

Tensor Sampler::integers(const Shape& shape, std::int64_t low, std::int64_t high) {
  std::vector<std::int32_t> values(static_cast<std::size_t>(shape.elements()));
  for (auto& value : values)
    value = static_cast<std::int32_t>(integer(low, high));
  return from_vector(values, shape);
}

const std::vector<OpCase>& op_cases() {
  static const std::vector<OpCase> cases = [] {
    std::vector<OpCase> all = elementwise_cases();
    for (auto group : {transformer_cases(), view_cases()}) {
      for (OpCase& row : group)
        all.push_back(std::move(row));
    }
    return all;
  }();
  return cases;
}

namespace {

/// An op of one input and options, computed element by element.
OpCall pointwise(const Tensor& x, std::string text, std::function<Var(const Var&)> op,
                 std::function<double(double)> f) {
  return {std::move(text),
          {x},
          [op](std::span<const Var> in) { return std::vector<Var>{op(in[0])}; },
          [f](const std::vector<Values>& in) {
            Values y = in[0];
            for (double& value : y)
              value = f(value);
            return std::vector<Values>{y};
          }};
}

OpCall broadcast(Sampler& random, Var (*op)(const Var&, const Var&), double (*f)(double, double)) {
  const Shape shape = random.matrix_shape(3);
  const auto rank = static_cast<int>(random.integer(1, shape.rank()));
  return {cat(shape, " with its last ", rank),
          {random.normal(shape), random.normal(shape.sub(shape.rank() - rank, shape.rank()))},
          [op](std::span<const Var> in) { return std::vector<Var>{op(in[0], in[1])}; },
          [f](const std::vector<Values>& in) {
            Values y = in[0];
            for (std::size_t i = 0; i < y.size(); ++i)
              y[i] = f(y[i], in[1][i % in[1].size()]);
            return std::vector<Values>{y};
          }};
}

/// Softmax of rows of `cols`; row r uses its first limit(r) elements.
Values softmax_rows(const Values& x, std::size_t cols,
                    const std::function<std::size_t(std::size_t)>& limit) {
  Values y(x.size(), 0.0);
  for (std::size_t r = 0; r < x.size() / cols; ++r) {
    double total = 0.0;
    for (std::size_t c = 0; c < limit(r); ++c)
      total += std::exp(x[r * cols + c]);
    for (std::size_t c = 0; c < limit(r); ++c) {
      y[r * cols + c] = std::exp(x[r * cols + c]) / total;
    }
  }
  return y;
}

/// Layer norm (centred) or RMS norm of rows; weight and bias may be empty.
Values normalised(const Values& x, const Values& weight, const Values& bias, std::size_t cols,
                  double eps, bool centred) {
  Values y(x.size());
  for (std::size_t r = 0; r < x.size() / cols; ++r) {
    const double* row = &x[r * cols];
    double mean = 0.0, variance = 0.0;
    for (std::size_t c = 0; centred && c < cols; ++c)
      mean += row[c] / static_cast<double>(cols);
    for (std::size_t c = 0; c < cols; ++c) {
      variance += (row[c] - mean) * (row[c] - mean) / static_cast<double>(cols);
    }
    for (std::size_t c = 0; c < cols; ++c) {
      const double h = (row[c] - mean) / std::sqrt(variance + eps);
      y[r * cols + c] = h * (weight.empty() ? 1.0 : weight[c]) + (bias.empty() ? 0.0 : bias[c]);
    }
  }
  return y;
}

OpCall layer_norm_call(Sampler& random) {
  const Shape shape = random.any_shape();
  const bool has_weight = random.coin(), has_bias = random.coin();
  const double eps = random.pick({1e-5, 1e-2});
  std::vector<Tensor> inputs{random.spread(shape)};
  if (has_weight) inputs.push_back(random.normal({shape[-1]}));
  if (has_bias) inputs.push_back(random.normal({shape[-1]}));
  return {cat(shape, ", weight ", has_weight, ", bias ", has_bias, ", eps ", eps), inputs,
          [=](std::span<const Var> in) {
            const Var weight = has_weight ? in[1] : Var(), bias = has_bias ? in.back() : Var();
            return std::vector<Var>{layer_norm(in[0], weight, bias, eps)};
          },
          [=](const std::vector<Values>& in) {
            return std::vector<Values>{normalised(in[0], has_weight ? in[1] : Values{},
                                                  has_bias ? in.back() : Values{},
                                                  static_cast<std::size_t>(shape[-1]), eps, true)};
          }};
}

/// add_layer_norm (centred), or add_rms_norm.
OpCall add_norm_call(Sampler& random, bool centred) {
  const Shape shape = random.any_shape();
  const double p = random.pick({0.0, 0.0, 0.3});
  const auto used = random.integer(0, 3);  // 0, 1: both results; 2: the sum; 3: the normalised rows
  const std::uint64_t seed = 77;
  const Tensor x = random.normal(shape);
  // The residual is spread wide enough that a dropped x does not make a row constant.
  std::vector<Tensor> inputs{random.spread(shape), scale(x, 0.3).value(),
                             random.normal({shape[-1]})};
  if (centred) inputs.push_back(random.normal({shape[-1]}));
  return {cat(shape, ", p ", p, ", results ", used), inputs,
          [=](std::span<const Var> in) {
            Generator generator(seed);
            Generator* const source = p > 0.0 ? &generator : nullptr;
            const auto [sum, y] = centred
                                      ? add_layer_norm(in[0], in[1], in[2], in[3], 1e-5, p, source)
                                      : add_rms_norm(in[0], in[1], in[2], 1e-5, p, source);
            if (used == 2) return std::vector<Var>{sum};
            return used == 3 ? std::vector<Var>{y} : std::vector<Var>{sum, y};
          },
          [=](const std::vector<Values>& in) {
            Values sum = in[0];
            for (std::size_t i = 0; i < sum.size(); ++i)
              sum[i] += in[1][i] * keep_factor({seed, 0}, static_cast<float>(p), i);
            const Values y = normalised(sum, in[2], centred ? in[3] : Values{},
                                        static_cast<std::size_t>(shape[-1]), 1e-5, centred);
            if (used == 2) return std::vector<Values>{sum};
            return used == 3 ? std::vector<Values>{y} : std::vector<Values>{sum, y};
          }};
}

OpCall add_layer_norm_call(Sampler& random) {
  return add_norm_call(random, true);
}

OpCall add_rms_norm_call(Sampler& random) {
  return add_norm_call(random, false);
}

OpCall rms_norm_call(Sampler& random) {
  const Shape shape = random.any_shape();
  const bool has_weight = random.coin();
  std::vector<Tensor> inputs{random.spread(shape)};
  if (has_weight) inputs.push_back(random.normal({shape[-1]}));
  return {
      cat(shape, ", weight ", has_weight), inputs,
      [=](std::span<const Var> in) {
        return std::vector<Var>{rms_norm(in[0], has_weight ? in[1] : Var(), 1e-5)};
      },
      [=](const std::vector<Values>& in) {
        return std::vector<Values>{normalised(in[0], has_weight ? in[1] : Values{}, {},
                                              static_cast<std::size_t>(shape[-1]), 1e-5, false)};
      }};
}

OpCall softmax_call(Sampler& random) {
  const Shape shape = random.any_shape();
  const auto cols = static_cast<std::size_t>(shape[-1]);
  return {
      cat(shape),
      {random.normal(shape)},
      [](std::span<const Var> in) { return std::vector<Var>{softmax(in[0])}; },
      [cols](const std::vector<Values>& in) {
        return std::vector<Values>{softmax_rows(in[0], cols, [cols](std::size_t) { return cols; })};
      }};
}

OpCall causal_softmax_call(Sampler& random) {
  const std::int64_t n = random.is_large() ? 130 : random.row_extent() + random.integer(0, 3);
  const Shape shape = random.coin() ? Shape{random.row_extent(), n, n} : Shape{n, n};
  const auto cols = static_cast<std::size_t>(n);
  return {cat(shape),
          {random.normal(shape)},
          [](std::span<const Var> in) { return std::vector<Var>{causal_softmax(in[0])}; },
          [cols](const std::vector<Values>& in) {
            return std::vector<Values>{
                softmax_rows(in[0], cols, [cols](std::size_t r) { return r % cols + 1; })};
          }};
}

OpCall gelu_call(Sampler& random) {
  const bool tanh_form = random.coin();
  return pointwise(
      random.normal(random.any_shape()), tanh_form ? "tanh" : "erf",
      [=](const Var& x) { return gelu(x, tanh_form ? GeluForm::tanh : GeluForm::erf); },
      [=](double x) {
        const double inner = std::sqrt(2.0 / std::numbers::pi) * (x + 0.044715 * x * x * x);
        return 0.5 * x * (1.0 + (tanh_form ? std::tanh(inner) : std::erf(x / std::sqrt(2.0))));
      });
}

OpCall dropout_call(Sampler& random) {
  const double p = random.pick({0.0, 0.1, 0.5});
  return {cat("p ", p),
          {random.normal(random.any_shape())},
          [p](std::span<const Var> in) {
            Generator generator(31);
            return std::vector<Var>{dropout(in[0], p, generator)};
          },
          [p](const std::vector<Values>& in) {
            Values y = in[0];
            for (std::size_t i = 0; i < y.size(); ++i)
              y[i] *= keep_factor({31, 0}, static_cast<float>(p), i);
            return std::vector<Values>{y};
          }};
}

const Tensor kA = zeros({2, 3}), kB = zeros({3}), kIntegers = zeros({2, 3}, DType::i32);
const Tensor kWide = zeros({2, 3}, DType::f64);

}  // namespace

std::vector<OpCase> elementwise_cases() {
  static Generator generator;
  return {
      {"add",
       [](Sampler& random) {
         return broadcast(random, add, [](double a, double b) { return a + b; });
       },
       {error_case<ShapeError>("add: b has shape [2], expected [2, 3] or its last dimensions",
                               [] { add(kA, zeros({2})); }),
        error_case<ShapeError>("add: b has shape [2, 3], expected [3]", [] { add(kB, kA); }),
        error_case<DTypeError>("add: b has dtype f64, expected f32 (the dtype of a)",
                               [] { add(kA, zeros({3}, DType::f64)); }),
        error_case<DTypeError>("add: a has dtype i32", [] { add(kIntegers, kB); }),
        error_case<Error>("add: b is an empty handle", [] { add(kA, Var()); })}},
      {"mul",
       [](Sampler& random) {
         return broadcast(random, mul, [](double a, double b) { return a * b; });
       },
       {error_case<ShapeError>("mul: b has shape [], expected [2, 3]", [] { mul(kA, zeros({})); }),
        error_case<DTypeError>("mul: b has dtype f64", [] { mul(kA, zeros({3}, DType::f64)); })}},
      {"scale",
       [](Sampler& random) {
         return pointwise(
             random.normal(random.any_shape()), "by -1.25",
             [](const Var& x) { return scale(x, -1.25); }, [](double x) { return -1.25 * x; });
       },
       {error_case<DTypeError>("scale: x has dtype i32", [] { scale(kIntegers, 2.0); })}},
      {"convert",
       [](Sampler& random) {  // to its own dtype; others: Convert.* in ops_test.cpp
         return pointwise(
             random.normal(random.any_shape()), "to its dtype",
             [](const Var& x) { return convert(x, x.dtype()); }, [](double x) { return x; });
       },
       {error_case<DTypeError>("convert: x has dtype i32", [] { convert(kIntegers, DType::f32); }),
        error_case<DTypeError>("convert: the result has dtype i64, expected f32 or f64",
                               [] { convert(kA, DType::i64); })}},
      {"relu",
       [](Sampler& random) {
         return pointwise(random.spread(random.any_shape()), "", relu,
                          [](double x) { return x > 0.0 ? x : 0.0; });
       },
       {error_case<DTypeError>("relu: x has dtype i32", [] { relu(kIntegers); })}},
      {"silu",
       [](Sampler& random) {
         return pointwise(random.normal(random.any_shape()), "", silu,
                          [](double x) { return x / (1.0 + std::exp(-x)); });
       },
       {error_case<Error>("silu: x is an empty handle", [] { silu({}); })}},
      {"gelu",
       gelu_call,
       {error_case<DTypeError>("gelu: x has dtype i32", [] { gelu(kIntegers); })}},
      {"dropout",
       dropout_call,
       {error_case<Error>("dropout: p is 1, expected 0 <= p < 1",
                          [] { dropout(kA, 1.0, generator); }),
        error_case<DTypeError>("dropout: x has dtype i32",
                               [] { dropout(kIntegers, 0.5, generator); })}},
      {"softmax",
       softmax_call,
       {error_case<ShapeError>("softmax: x has shape [], expected at least 1 dimension",
                               [] { softmax(zeros({})); })}},
      {"causal_softmax",
       causal_softmax_call,
       {error_case<ShapeError>("causal_softmax: x has shape [2, 3], expected [2, 2]",
                               [] { causal_softmax(kA); }),
        error_case<ShapeError>("causal_softmax: x has shape [3]", [] { causal_softmax(kB); })}},
      {"layer_norm",
       layer_norm_call,
       {error_case<ShapeError>(
            "layer_norm: weight has shape [2], expected [3] (the last dimension of x [2, 3])",
            [] { layer_norm(kA, zeros({2}), kB); }),
        error_case<ShapeError>("layer_norm: bias has shape [2, 3]", [] { layer_norm(kA, kB, kA); }),
        error_case<DTypeError>("layer_norm: weight has dtype f64, expected f32",
                               [] { layer_norm(kA, zeros({3}, DType::f64), {}); }),
        error_case<DTypeError>("layer_norm: bias has dtype f64, expected f32",
                               [] { layer_norm(kA, kB, zeros({3}, DType::f64)); }),
        error_case<DTypeError>("layer_norm: dtype is f64, expected f32 (the dtype of x; x may be",
                               [] { layer_norm(kA, kB, kB, 1e-5, DType::f64); }),
        error_case<DTypeError>("layer_norm: dtype is bf16, expected f32 (the dtype of x;",
                               [] { layer_norm(kA, kB, kB, 1e-5, DType::bf16); }),
        error_case<DTypeError>("layer_norm: dtype is i32, expected f64 (the dtype of x;",
                               [] { layer_norm(kWide, kB, kB, 1e-5, DType::i32); }),
        error_case<DTypeError>(
            "layer_norm: weight has dtype f64, expected f32",
            [] { layer_norm(kWide, zeros({3}, DType::f64), {}, 1e-5, DType::f32); }),
        error_case<ShapeError>("layer_norm: x has shape [], expected at least 1 dimension",
                               [] { layer_norm(zeros({}), {}, {}); }),
        error_case<Error>("layer_norm: eps is -1e-05, expected 0 or a positive number",
                          [] { layer_norm(kA, kB, kB, -1e-5); }),
        error_case<Error>("layer_norm: eps is nan, expected 0 or a positive number",
                          [] { layer_norm(kA, kB, kB, NAN); }),
        error_case<Error>("layer_norm: eps is inf, expected 0 or a positive number",
                          [] { layer_norm(kA, kB, kB, HUGE_VAL); })}},
      {"add_layer_norm",
       add_layer_norm_call,
       {error_case<ShapeError>("add_layer_norm: residual has shape [3], expected [2, 3]",
                               [] { add_layer_norm(kB, kA, kB, kB); }),
        error_case<DTypeError>(
            "add_layer_norm: residual has dtype f32, expected f64 (the dtype of x;",
            [] { add_layer_norm(kA, kWide, {}, {}); }),
        error_case<DTypeError>(
            "add_layer_norm: residual has dtype i32, expected f32 (the dtype of x;",
            [] { add_layer_norm(kIntegers, kA, kB, kB); }),
        error_case<DTypeError>("add_layer_norm: residual has dtype bf16, expected f32",
                               [] {
                                 add_layer_norm(zeros({2, 3}, DType::bf16), kA, kB, kB);
                               }),
        error_case<DTypeError>("add_layer_norm: weight has dtype f64, expected f32",
                               [] { add_layer_norm(kWide, kA, zeros({3}, DType::f64), {}); }),
        error_case<ShapeError>("add_layer_norm: residual has shape [2, 4], expected [2, 3]",
                               [] {
                                 add_layer_norm(zeros({2, 4}, DType::f64), kA, kB, kB);
                               }),
        error_case<Error>("add_layer_norm: residual is an empty handle",
                          [] { add_layer_norm({}, kA, kB, kB); }),
        error_case<Error>("add_layer_norm: p is 1, expected 0 <= p < 1",
                          [] { add_layer_norm(kA, kA, kB, kB, 1e-5, 1.0, &generator); }),
        error_case<Error>("add_layer_norm: p is 0.5 without a generator",
                          [] { add_layer_norm(kA, kA, kB, kB, 1e-5, 0.5); }),
        error_case<Error>("add_layer_norm: eps is -1e-05, expected 0 or a positive number",
                          [] { add_layer_norm(kA, kA, kB, kB, -1e-5); }),
        error_case<Error>("add_layer_norm: eps is nan, expected 0 or a positive number",
                          [] { add_layer_norm(kA, kA, kB, kB, NAN); })}},
      {"add_rms_norm",
       add_rms_norm_call,
       {error_case<ShapeError>("add_rms_norm: residual has shape [3], expected [2, 3]",
                               [] { add_rms_norm(kB, kA, kB); }),
        error_case<DTypeError>(
            "add_rms_norm: residual has dtype f32, expected f64 (the dtype of x;",
            [] { add_rms_norm(kA, kWide, {}); }),
        error_case<ShapeError>("add_rms_norm: weight has shape [4], expected [3]",
                               [] { add_rms_norm(kA, kA, zeros({4})); }),
        error_case<Error>("add_rms_norm: residual is an empty handle",
                          [] { add_rms_norm({}, kA, kB); }),
        error_case<Error>("add_rms_norm: p is 1, expected 0 <= p < 1",
                          [] { add_rms_norm(kA, kA, kB, 1e-5, 1.0); }),
        error_case<Error>("add_rms_norm: p is 0.1 without a generator",
                          [] { add_rms_norm(kA, kA, kB, 1e-5, 0.1); })}},
      {"rms_norm",
       rms_norm_call,
       {error_case<ShapeError>("rms_norm: weight has shape [4], expected [3]",
                               [] { rms_norm(kA, zeros({4})); }),
        error_case<DTypeError>("rms_norm: weight has dtype f64, expected f32",
                               [] { rms_norm(kA, zeros({3}, DType::f64)); }),
        error_case<Error>("rms_norm: x is an empty handle", [] { rms_norm({}, kB); }),
        error_case<Error>("rms_norm: eps is -1e-05, expected 0 or a positive number",
                          [] { rms_norm(kA, kB, -1e-5); }),
        error_case<Error>("rms_norm: eps is nan, expected 0 or a positive number",
                          [] { rms_norm(kA, kB, NAN); })}},
  };
}

}  // namespace lamina::testing
