// SPDX-License-Identifier: MIT
// Embedding and its gradient on CUDA against the CPU kernels in f64.
#include "core/kernels/embedding.h"

#include "tests/kernels/cuda_run.h"

namespace lamina::testing {
namespace {

/// How many tokens, of which vocabulary, how wide.
struct TableCase {
  std::int64_t tokens, vocabulary, cols;
};

/// Single ones, hot tokens (each in many tiles), sparse vocabularies, several tiles of one token.
constexpr TableCase kTables[] = {{1, 1, 1},       {5, 3, 7},      {33, 1, 8},
                                 {64, 64, 40},    {1000, 65, 33}, {4096, 65, 128},
                                 {300, 5000, 24}, {2500, 2, 16},  {70000, 3, 8}};

class CudaEmbedding : public CudaTestWith<DType> {
 protected:
  Generator generator_{31};

  std::vector<std::int32_t> tokens(const TableCase& table) {
    const PhiloxKey key = generator_.next();
    std::vector<std::int32_t> values(static_cast<std::size_t>(table.tokens));
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double u = uniform_at(key, i);  // squared: small tokens are more frequent
      values[i] = static_cast<std::int32_t>(u * u * static_cast<double>(table.vocabulary));
    }
    return values;
  }
};

TEST_P(CudaEmbedding, GathersRows) {
  for (const TableCase& table : kTables) {
    for (const Layout layout : kLayouts) {
      const std::vector<std::int32_t> t = tokens(table);
      const auto weights = CudaTensor::normal({table.vocabulary, table.cols}, GetParam(),
                                              generator_, 1.0, 0.0, layout);
      const auto y = CudaTensor::poisoned({table.tokens, table.cols}, GetParam(), layout);
      const Tensor on_device = from_vector(t, {table.tokens}, kCuda);
      run_on(kCuda, kernels::Embedding{.tokens = flat(on_device),
                                       .table = rows(weights.tensor()),
                                       .y = rows(y.tensor())});
      const std::vector<double> from = weights.values(), got = y.values();
      const auto cols = static_cast<std::size_t>(table.cols);
      for (std::size_t i = 0; i < got.size(); ++i) {
        ASSERT_EQ(got[i], from[static_cast<std::size_t>(t[i / cols]) * cols + i % cols]) << i;
      }
      ASSERT_TRUE(y.guards_intact());
    }
  }
}

TEST_P(CudaEmbedding, GivesNanRowsForTokensOutsideTheTable) {
  const auto weights = CudaTensor::normal({4, 9}, GetParam(), generator_);
  const auto y = CudaTensor::normal({4, 9}, GetParam(), generator_);
  const Tensor t = from_vector(std::vector<std::int32_t>{-1, 4, 3, 1 << 30}, {4}, kCuda);
  run_on(kCuda, kernels::Embedding{
                    .tokens = flat(t), .table = rows(weights.tensor()), .y = rows(y.tensor())});
  const std::vector<double> got = y.values();
  for (std::size_t i = 0; i < got.size(); ++i)
    EXPECT_EQ(std::isnan(got[i]), i / 9 != 2) << i;
}

TEST_P(CudaEmbedding, SumsGradientsByToken) {
  for (const TableCase& table : kTables) {
    for (const Layout layout : kLayouts) {
      for (const DType out : {GetParam(), DType::f32}) {
        for (const GradWrite write : kWrites) {
          SCOPED_TRACE(cat(table.tokens, " of ", table.vocabulary, " x ", table.cols, " to ", out));
          const std::vector<std::int32_t> t = tokens(table);
          const auto dy = CudaTensor::normal({table.tokens, table.cols}, GetParam(), generator_,
                                             1.0, 0.0, layout);
          const auto dtable =
              gradient_for(write, {table.vocabulary, table.cols}, out, generator_, layout);
          const Tensor want = dtable.reference(), dy_ref = dy.reference();
          const Tensor on_cpu = from_vector(t, {table.tokens}), on_device = on_cpu.to(kCuda);
          run_on(kCpu, kernels::EmbeddingBackward{.tokens = flat(on_cpu),
                                                  .dy = rows(dy_ref),
                                                  .dtable = rows(want),
                                                  .write = write,
                                                  .workspace = {}});
          run_on(kCuda, kernels::EmbeddingBackward{.tokens = flat(on_device),
                                                   .dy = rows(dy.tensor()),
                                                   .dtable = rows(dtable.tensor()),
                                                   .write = write,
                                                   .workspace = {}});
          // Partial sums of n numbers of size 1 stay near sqrt(n).
          const double absolute = 4e-6 * std::sqrt(static_cast<double>(table.tokens));
          ASSERT_TRUE(
              all_close(dtable.values(), want.to_vector<double>(), f32_arithmetic(out, absolute)));
          ASSERT_TRUE(dtable.guards_intact());
        }
      }
    }
  }
}

TEST_P(CudaEmbedding, LeavesOutTokensOutsideTheTable) {
  const std::vector<double> ones(5 * 16, 1.0);
  const CudaTensor dy(ones, {5, 16}, GetParam());
  const auto dtable = CudaTensor::poisoned({3, 16}, GetParam());
  const Tensor t = from_vector(std::vector<std::int32_t>{-1, 2, 3, 2, 1 << 30}, {5}, kCuda);
  run_on(kCuda, kernels::EmbeddingBackward{.tokens = flat(t),
                                           .dy = rows(dy.tensor()),
                                           .dtable = rows(dtable.tensor()),
                                           .write = GradWrite::overwrite,
                                           .workspace = {}});
  std::vector<double> want(3 * 16, 0.0);
  std::fill(want.begin() + 32, want.end(), 2.0);
  EXPECT_EQ(dtable.values(), want);
}

TEST_P(CudaEmbedding, GivesTheSameBitsEveryTime) {
  const TableCase table{16384, 65, 48};
  const auto dy = CudaTensor::normal({table.tokens, table.cols}, GetParam(), generator_);
  const auto dtable = CudaTensor::poisoned({table.vocabulary, table.cols}, DType::f32);
  const Tensor t = from_vector(tokens(table), {table.tokens}, kCuda);
  expect_same_bits([&] {
    run_on(kCuda, kernels::EmbeddingBackward{.tokens = flat(t),
                                             .dy = rows(dy.tensor()),
                                             .dtable = rows(dtable.tensor()),
                                             .write = GradWrite::overwrite,
                                             .workspace = {}});
    return dtable.values();
  });
}

INSTANTIATE_TEST_SUITE_P(Cuda, CudaEmbedding, kCudaDTypes, dtype_name);

}  // namespace
}  // namespace lamina::testing
