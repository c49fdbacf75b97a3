// SPDX-License-Identifier: MIT
// The rows of products, embedding, attention and cross-entropy.
#include "core/kernels/attention.h"
#include "tests/support/keep_factor.h"
#include "tests/support/op_cases.h"

#include <cmath>
#include <numbers>

namespace lamina::testing {
namespace {

std::size_t size(std::int64_t extent) {
  return static_cast<std::size_t>(extent);
}

OpCall matmul_call(Sampler& random) {
  const std::int64_t m = random.row_extent(), k = random.is_large() ? 65 : random.row_extent() + 2;
  const std::int64_t n = random.is_large() ? 130 : random.row_extent();
  const auto form = random.integer(0, 2);  // matrices; one b for all; one b each
  const std::int64_t batch = form == 0 ? 1 : random.row_extent();
  const Shape a = form == 0 ? Shape{m, k} : Shape{batch, m, k};
  const Shape b = form == 2 ? Shape{batch, k, n} : Shape{k, n};
  return {cat(a, " times ", b),
          {random.normal(a), random.normal(b)},
          [](std::span<const Var> in) { return std::vector<Var>{matmul(in[0], in[1])}; },
          [=](const std::vector<Values>& in) {
            Values y(size(batch * m * n), 0.0);
            for (std::int64_t s = 0; s < batch; ++s) {
              for (std::int64_t i = 0; i < m; ++i) {
                for (std::int64_t j = 0; j < n; ++j) {
                  double& out = y[size((s * m + i) * n + j)];
                  for (std::int64_t l = 0; l < k; ++l) {
                    const std::int64_t row = (form == 2 ? s * k : 0) + l;
                    out += in[0][size((s * m + i) * k + l)] * in[1][size(row * n + j)];
                  }
                }
              }
            }
            return std::vector<Values>{y};
          }};
}

OpCall linear_call(Sampler& random, bool with_gelu) {
  const Shape x = random.is_large() ? Shape{random.row_extent(), 3, 129}
                  : random.coin()   ? random.matrix_shape()
                                    : Shape{random.row_extent() + 1};
  const std::int64_t in_features = x[-1];
  const std::int64_t out_features = random.is_large() ? 70 : random.row_extent() + 1;
  const bool has_bias = random.coin();
  std::vector<Tensor> inputs{random.normal(x),
                             scale(random.normal({out_features, in_features}), 0.3).value()};
  if (has_bias) inputs.push_back(random.normal({out_features}));
  return {cat(x, " to ", out_features, ", bias ", has_bias), inputs,
          [=](std::span<const Var> in) {
            const Var bias = has_bias ? in[2] : Var();
            return std::vector<Var>{with_gelu ? linear_gelu(in[0], in[1], bias)
                                              : linear(in[0], in[1], bias)};
          },
          [=](const std::vector<Values>& in) {
            const std::size_t cols = size(in_features), outs = size(out_features);
            const std::size_t row_count = in[0].size() / cols;
            Values y(row_count * outs);
            for (std::size_t i = 0; i < y.size(); ++i) {
              double value = has_bias ? in[2][i % outs] : 0.0;
              for (std::size_t c = 0; c < cols; ++c) {
                value += in[0][i / outs * cols + c] * in[1][i % outs * cols + c];
              }
              const double inner =
                  std::sqrt(2.0 / std::numbers::pi) * (value + 0.044715 * value * value * value);
              y[i] = with_gelu ? 0.5 * value * (1.0 + std::tanh(inner)) : value;
            }
            return std::vector<Values>{y};
          }};
}

OpCall embedding_call(Sampler& random) {
  const std::int64_t vocabulary = random.is_large() ? 97 : random.row_extent() + 1;
  const std::int64_t cols = random.col_extent();
  const Shape shape =
      random.coin() ? Shape{random.row_extent(), random.row_extent()} : Shape{random.row_extent()};
  const Tensor tokens = random.integers(shape, 0, vocabulary - 1);
  return {cat(shape, " of ", vocabulary, " x ", cols),
          {random.normal({vocabulary, cols})},
          [tokens](std::span<const Var> in) {
            return std::vector<Var>{embedding(tokens.to(in[0].device()), in[0])};
          },
          [=](const std::vector<Values>& in) {
            Values y;
            for (const std::int32_t token : tokens.to_vector<std::int32_t>()) {
              for (std::int64_t c = 0; c < cols; ++c)
                y.push_back(in[0][size(token * cols + c)]);
            }
            return std::vector<Values>{y};
          }};
}

OpCall attention_call(Sampler& random) {
  const bool large = random.is_large();
  const std::int64_t batch = random.integer(1, 2), heads = random.integer(1, 3);
  const std::int64_t time = large ? 70 : random.row_extent() + random.integer(0, 2);
  const std::int64_t head_size =
      large ? 64 : static_cast<std::int64_t>(random.pick({1, 2, 3, 4, 8}));
  AttentionOptions options{.causal = random.coin(),
                           .drop_p = random.pick({0.0, 0.0, 0.25}),
                           .generator = nullptr,
                           .scale = random.pick({0.0, 0.5})};
  const std::int64_t width = heads * head_size;
  const double used_scale =
      options.scale != 0.0 ? options.scale : 1.0 / std::sqrt(static_cast<double>(head_size));
  return {
      cat("batch ", batch, ", time ", time, ", heads ", heads, " of ", head_size, ", causal ",
          options.causal, ", drop_p ", options.drop_p, ", scale ", options.scale),
      {random.normal({batch, time, 3 * width})},
      [=](std::span<const Var> in) {
        Generator generator(5);
        AttentionOptions with_generator = options;
        with_generator.generator = &generator;
        return std::vector<Var>{attention(in[0], static_cast<int>(heads), with_generator)};
      },
      [=](const std::vector<Values>& in) {
        const auto at = [&](std::int64_t b, std::int64_t t, std::int64_t part, std::int64_t h,
                            std::int64_t i) {
          return in[0][size(((b * time + t) * 3 + part) * width + h * head_size + i)];
        };
        const auto drop_p = static_cast<float>(options.drop_p);
        Values y(size(batch * time * width), 0.0);
        for (std::int64_t b = 0; b < batch; ++b) {
          for (std::int64_t h = 0; h < heads; ++h) {
            for (std::int64_t t = 0; t < time; ++t) {
              const std::int64_t seen = options.causal ? t + 1 : time;
              Values probability(size(seen));
              double total = 0.0;
              for (std::int64_t s = 0; s < seen; ++s) {
                double score = 0.0;
                for (std::int64_t i = 0; i < head_size; ++i)
                  score += at(b, t, 0, h, i) * at(b, s, 1, h, i);
                // The contract holds the scale in f32.
                total += probability[size(s)] = std::exp(static_cast<float>(used_scale) * score);
              }
              for (std::int64_t s = 0; s < seen; ++s) {
                const std::uint64_t element =
                    kernels::attention_mask_element(b * heads + h, t, s, time);
                const double weight =
                    probability[size(s)] / total * keep_factor({5, 0}, drop_p, element);
                for (std::int64_t i = 0; i < head_size; ++i) {
                  y[size((b * time + t) * width + h * head_size + i)] += weight * at(b, s, 2, h, i);
                }
              }
            }
          }
        }
        return std::vector<Values>{y};
      }};
}

OpCall cross_entropy_call(Sampler& random) {
  const Shape shape = random.any_shape();
  const std::int64_t cols = shape[-1];
  const std::int64_t padding = cols > 2 && random.coin() ? random.integer(1, cols / 2) : 0;
  const CrossEntropyOptions options{.ignore_index = random.coin() ? -100 : -1,
                                    .classes = padding > 0 ? cols - padding : 0};
  // One position in the range below 0 stands for "ignored".
  const std::int64_t lowest = random.coin() ? -1 : 0;
  std::vector<std::int32_t> targets =
      random.integers(shape.sub(0, -1), lowest, cols - padding - 1).to_vector<std::int32_t>();
  for (auto& target : targets)
    target = target < 0 ? options.ignore_index : target;
  const Tensor ids = from_vector(targets, shape.sub(0, -1));
  const bool gives_up_logits = random.coin();
  return {cat(shape, ", classes ", options.classes, ", ignored from ", lowest,
              gives_up_logits ? ", of a temporary" : ""),
          {random.normal(shape)},
          [=](std::span<const Var> in) {
            const Tensor on_device = ids.to(in[0].device());
            return std::vector<Var>{gives_up_logits
                                        ? cross_entropy(scale(in[0], 1.0), on_device, options)
                                        : cross_entropy(in[0], on_device, options)};
          },
          [=](const std::vector<Values>& in) {
            double total = 0.0, count = 0.0;
            for (std::size_t r = 0; r < targets.size(); ++r) {
              if (targets[r] == options.ignore_index) continue;
              const double* row = &in[0][r * size(cols)];
              double sum_of_exp = 0.0;
              for (std::int64_t c = 0; c < cols - padding; ++c)
                sum_of_exp += std::exp(row[c]);
              total += std::log(sum_of_exp) - row[targets[r]];
              count += 1.0;
            }
            return std::vector<Values>{{count > 0.0 ? total / count : 0.0}};
          }};
}

OpCall linear_cross_entropy_call(Sampler& random) {
  const Shape shape = random.any_shape();
  const std::int64_t in = shape[-1], out = random.integer(1, 9);
  const LinearCrossEntropyOptions options{.classes = random.coin() ? 0 : random.integer(1, out),
                                          .rows = random.integer(1, 7)};
  const std::int64_t classes = options.classes == 0 ? out : options.classes;
  std::vector<std::int32_t> targets =
      random.integers(shape.sub(0, -1), -1, classes - 1).to_vector<std::int32_t>();
  for (auto& target : targets)
    target = target < 0 ? options.ignore_index : target;
  const Tensor ids = from_vector(targets, shape.sub(0, -1));
  return {cat(shape, ", ", out, " outputs, classes ", options.classes, ", rows ", options.rows),
          {random.normal(shape), random.normal({out, in})},
          [=](std::span<const Var> x) {
            const Tensor on_device = ids.to(x[0].device());
            return std::vector<Var>{linear_cross_entropy(x[0], x[1], on_device, options)};
          },
          [=](const std::vector<Values>& x) {
            double total = 0.0, count = 0.0;
            for (std::size_t r = 0; r < targets.size(); ++r) {
              if (targets[r] == options.ignore_index) continue;
              double sum_of_exp = 0.0, of_target = 0.0;
              for (std::int64_t c = 0; c < classes; ++c) {
                double logit = 0.0;
                for (std::int64_t i = 0; i < in; ++i)
                  logit += x[0][r * size(in) + size(i)] * x[1][size(c * in + i)];
                sum_of_exp += std::exp(logit);
                if (c == targets[r]) of_target = logit;
              }
              total += std::log(sum_of_exp) - of_target;
              count += 1.0;
            }
            return std::vector<Values>{{count > 0.0 ? total / count : 0.0}};
          }};
}

Tensor tokens_of(std::int32_t value) {
  return from_vector<std::int32_t>({value, 0}, {2});
}

const Tensor kX = zeros({2, 3});

}  // namespace

std::vector<OpCase> transformer_cases() {
  return {
      {"matmul",
       matmul_call,
       {error_case<ShapeError>("matmul: b has shape [2, 3], expected [3, 3]",
                               [] { matmul(kX, kX); }),
        error_case<ShapeError>("matmul: a has shape [3], expected at least 2 dimensions",
                               [] { matmul(zeros({3}), kX); }),
        error_case<ShapeError>("matmul: b has shape [4, 3, 2], expected [5, 3, 2]",
                               [] {
                                 matmul(zeros({5, 1, 3}), zeros({4, 3, 2}));
                               }),
        error_case<DTypeError>("matmul: b has dtype f64",
                               [] {
                                 matmul(kX, zeros({3, 2}, DType::f64));
                               })}},
      {"linear",
       [](Sampler& random) { return linear_call(random, false); },
       {error_case<ShapeError>("linear: weight has shape [3, 2], expected [3, 3]",
                               [] {
                                 linear(kX, zeros({3, 2}));
                               }),
        error_case<ShapeError>("linear: bias has shape [3], expected [2]",
                               [] { linear(kX, kX, zeros({3})); }),
        error_case<DTypeError>("linear: weight has dtype f64, expected f32",
                               [] {
                                 linear(kX, zeros({2, 3}, DType::f64));
                               })}},
      {"linear_gelu",
       [](Sampler& random) { return linear_call(random, true); },
       {error_case<ShapeError>("linear_gelu: weight has shape [3], expected at least 2",
                               [] { linear_gelu(kX, zeros({3})); }),
        error_case<DTypeError>("linear_gelu: bias has dtype f64",
                               [] { linear_gelu(kX, kX, zeros({2}, DType::f64)); })}},
      {"embedding",
       embedding_call,
       {error_case<DTypeError>("embedding: tokens has dtype f32, expected i32",
                               [] { embedding(zeros({2}), kX); }),
        error_case<ShapeError>("embedding: weight has shape [3], expected at least 2 dimensions",
                               [] { embedding(tokens_of(0), zeros({3})); }),
        error_case<Error>("embedding", [] { embedding(tokens_of(2), kX); })}},
      {"attention",
       attention_call,
       {error_case<ShapeError>("attention: qkv has shape [1, 2, 8], expected [batch, time, 3 * 2",
                               [] {
                                 attention(zeros({1, 2, 8}), 2);
                               }),
        error_case<ShapeError>("attention: qkv has shape [2, 3]", [] { attention(kX, 1); }),
        error_case<Error>("attention: drop_p is 0.5 without a generator",
                          [] {
                            attention(zeros({1, 2, 6}), 1, {.drop_p = 0.5});
                          })}},
      {"cross_entropy",
       cross_entropy_call,
       {error_case<ShapeError>(
            "cross_entropy: targets has shape [2], expected [4] (the leading dimensions of logits",
            [] {
              cross_entropy(zeros({4, 3}), tokens_of(0));
            }),
        error_case<DTypeError>("cross_entropy: targets has dtype f32, expected i32",
                               [] { cross_entropy(kX, zeros({2})); }),
        error_case<ShapeError>("cross_entropy: classes is 4, expected 1 to 3",
                               [] { cross_entropy(kX, tokens_of(0), {.classes = 4}); }),
        error_case<Error>("cross_entropy", [] { cross_entropy(kX, tokens_of(3)); })}},
      {"linear_cross_entropy",
       linear_cross_entropy_call,
       {error_case<ShapeError>("linear_cross_entropy: weight has shape [3, 2], expected [3, 3]",
                               [] {
                                 linear_cross_entropy(kX, zeros({3, 2}), tokens_of(0));
                               }),
        error_case<ShapeError>("linear_cross_entropy: targets has shape [2], expected [4]",
                               [] {
                                 linear_cross_entropy(zeros({4, 3}), zeros({5, 3}), tokens_of(0));
                               }),
        error_case<DTypeError>("linear_cross_entropy: weight has dtype f64",
                               [] {
                                 linear_cross_entropy(kX, zeros({5, 3}, DType::f64), tokens_of(0));
                               }),
        error_case<ShapeError>(
            "linear_cross_entropy: classes is 6, expected 1 to 5",
            [] {
              linear_cross_entropy(kX, zeros({5, 3}), tokens_of(0), {.classes = 6});
            }),
        error_case<Error>("linear_cross_entropy: rows is 0, expected at least 1",
                          [] {
                            linear_cross_entropy(kX, zeros({5, 3}), tokens_of(0), {.rows = 0});
                          }),
        error_case<Error>("cross_entropy: target 5",
                          [] {
                            linear_cross_entropy(kX, zeros({5, 3}), tokens_of(5));
                          })}},
  };
}

}  // namespace lamina::testing
