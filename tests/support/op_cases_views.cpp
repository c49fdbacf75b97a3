// SPDX-License-Identifier: MIT
// The rows of reductions and views.
#include "tests/support/op_cases.h"

#include <numeric>

namespace lamina::testing {
namespace {

OpCall reduction(Sampler& random, Var (*op)(const Var&), bool is_mean) {
  // Of one sign mostly, so that rounding is small against the sum; small, so that f16 can hold it.
  const Tensor x = random.normal(random.any_shape());
  return {
      "",
      {scale(add(x, full(x.shape(), 2.0, DType::f64)), 1.0 / 64.0).value()},
      [op](std::span<const Var> in) { return std::vector<Var>{op(in[0])}; },
      [is_mean](const std::vector<Values>& in) {
        const double total = std::accumulate(in[0].begin(), in[0].end(), 0.0);
        return std::vector<Values>{{is_mean ? total / static_cast<double>(in[0].size()) : total}};
      }};
}

/// Elements of dimension `dim` of a row-major tensor in [begin, end).
Values range(const Values& x, const Shape& shape, int dim, std::int64_t begin, std::int64_t end) {
  const std::int64_t inner = shape.sub(dim + 1, shape.rank()).elements();
  Values y;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::int64_t position = static_cast<std::int64_t>(i) / inner % shape[dim];
    if (position >= begin && position < end) y.push_back(x[i]);
  }
  return y;
}

OpCall reshape_call(Sampler& random) {
  const Shape shape = random.matrix_shape(3);
  const auto form = random.integer(0, 2);
  const std::vector<std::int64_t> extents = form == 0 ? std::vector<std::int64_t>{-1}
                                            : form == 1
                                                ? std::vector<std::int64_t>{1, -1, shape[-1]}
                                                : std::vector<std::int64_t>{shape[-1], -1};
  return {cat(shape, ", form ", form),
          {random.normal(shape)},
          [extents](std::span<const Var> in) { return std::vector<Var>{reshape(in[0], extents)}; },
          [](const std::vector<Values>& in) { return in; }};
}

OpCall slice_call(Sampler& random) {
  const Shape shape = random.matrix_shape(3);
  const auto dim = static_cast<int>(random.integer(0, shape.rank() - 1));
  const std::int64_t begin = random.integer(0, shape[dim] - 1);
  const std::int64_t end = random.integer(begin + 1, shape[dim]);
  const int given = random.coin() ? dim : dim - shape.rank();
  return {
      cat(shape, ", dimension ", given, " from ", begin, " to ", end),
      {random.normal(shape)},
      [=](std::span<const Var> in) { return std::vector<Var>{slice(in[0], given, begin, end)}; },
      [=](const std::vector<Values>& in) {
        return std::vector<Values>{range(in[0], shape, dim, begin, end)};
      }};
}

OpCall split_call(Sampler& random) {
  const int parts = static_cast<int>(random.integer(1, 4));
  Shape shape = random.matrix_shape(2);
  const auto dim = static_cast<int>(random.integer(0, shape.rank() - 1));
  shape = shape.with(dim, shape[dim] * parts);
  const auto used = static_cast<int>(random.integer(1, parts));  // the others get no gradient
  const std::int64_t extent = shape[dim] / parts;
  return {cat(shape, ", dimension ", dim, ", ", used, " of ", parts),
          {random.normal(shape)},
          [=](std::span<const Var> in) {
            std::vector<Var> all = split(in[0], parts, dim);
            return std::vector<Var>(all.end() - used, all.end());
          },
          [=](const std::vector<Values>& in) {
            std::vector<Values> all;
            for (std::int64_t i = parts - used; i < parts; ++i) {
              all.push_back(range(in[0], shape, dim, i * extent, (i + 1) * extent));
            }
            return all;
          }};
}

const Tensor kTwoByThree = zeros({2, 3});

}  // namespace

std::vector<OpCase> view_cases() {
  return {
      {"sum",
       [](Sampler& random) { return reduction(random, sum, false); },
       {error_case<DTypeError>("sum: x has dtype i32", [] { sum(zeros({2}, DType::i32)); })}},
      {"mean",
       [](Sampler& random) { return reduction(random, mean, true); },
       {error_case<ShapeError>("mean: x has shape [0], expected at least one element",
                               [] { mean(zeros({0})); })}},
      {"reshape",
       reshape_call,
       {error_case<ShapeError>("reshape",
                               [] {
                                 reshape(kTwoByThree, {4, -1});
                               }),
        error_case<ShapeError>("reshape", [] { reshape(kTwoByThree.transpose(0, 1), {6}); }),
        error_case<Error>("reshape: x is an empty handle", [] { reshape({}, {1}); })}},
      {"slice",
       slice_call,
       {error_case<ShapeError>("slice: positions are [1, 3), expected at least one in [0, 2)",
                               [] { slice(kTwoByThree, 0, 1, 3); }),
        error_case<ShapeError>("slice: dim is 2, expected -2 to 1",
                               [] { slice(kTwoByThree, 2, 0, 1); })}},
      {"split",
       split_call,
       {error_case<ShapeError>("split: parts is 2, expected a divisor of 3",
                               [] { split(kTwoByThree, 2); })}},
  };
}

}  // namespace lamina::testing
