// SPDX-License-Identifier: MIT
// Attention of one new position: on the CPU against attention over all positions, on CUDA against
// the CPU in f64.
#include "core/kernels/cached_attention.h"

#include "core/kernels/attention.h"
#include "tests/kernels/cuda_run.h"

#include <cmath>

namespace lamina::testing {
namespace {

constexpr std::int64_t kBatch = 3, kHeads = 2, kCapacity = 9;

kernels::CachedAttention arguments(std::int64_t head_size, std::int64_t heads,
                                   std::int64_t capacity, const Tensor& position, const Tensor& qkv,
                                   const Tensor& cache, const Tensor& out) {
  return {.heads = heads,
          .head_size = head_size,
          .capacity = capacity,
          .scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_size))),
          .position = flat(position),
          .qkv = rows(qkv),
          .cache = rows(cache),
          .out = rows(out)};
}

TEST(CachedAttention, GivesWhatAttentionOverAllPositionsGives) {
  for (const std::int64_t size : {1, 5, 16}) {
    const std::int64_t width = kHeads * size;
    Generator generator(4);
    const Tensor qkv = randn({kBatch, kCapacity, 3 * width}, generator, DType::f64);
    const Tensor want = zeros({kBatch * kCapacity, width}, DType::f64);
    const Tensor lse = zeros({kBatch * kHeads * kCapacity}, DType::f64);
    run_on(kCpu,
           kernels::Attention{
               .shape = {.batch = kBatch,
                         .time = kCapacity,
                         .heads = kHeads,
                         .head_size = size,
                         .scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(size))),
                         .causal = true},
               .qkv = rows(qkv),
               .out = rows(want),
               .lse = flat(lse)});
    const Tensor cache = full({kBatch * kCapacity, 2 * width}, std::nan(""), DType::f64);
    for (std::int64_t t = 0; t < kCapacity; ++t) {
      const Tensor now = qkv.slice(1, t, t + 1).contiguous().reshape({kBatch, 3 * width});
      const Tensor out = full({kBatch, width}, std::nan(""), DType::f64);
      run_on(kCpu, arguments(size, kHeads, kCapacity,
                             full({1}, static_cast<std::int32_t>(t), DType::i32), now, cache, out));
      const Tensor of_time =
          want.reshape({kBatch, kCapacity, width}).slice(1, t, t + 1).contiguous();
      EXPECT_TRUE(all_close(out.to_vector<double>(), of_time.to_vector<double>(),
                            {.dtype = DType::f64, .ulps = 4, .absolute = 1e-14}));
    }
    EXPECT_EQ(cache.to_vector<double>(),
              qkv.slice(2, width, 3 * width).contiguous().to_vector<double>());
  }
}

class CudaCachedAttention : public CudaTestWith<DType> {};

TEST_P(CudaCachedAttention, MatchesTheReference) {
  struct Case {
    std::int64_t batch, heads, size, capacity;
    std::vector<std::int32_t> positions;
    Layout layout = {};
  };

  const std::vector<Case> cases = {
      {1, 12, 64, 1100, {0, 1, 3, 255, 256, 1099}},  // few blocks, so large ones
      {40, 8, 64, 70, {0, 17, 69}},                  // many
      {2, 3, 128, 130, {0, 129}},
      {2, 3, 32, 130, {0, 129}},
      {2, 3, 96, 130, {5, 129}},
      {2, 1, 8, 300, {0, 299}},
      {2, 3, 7, 40, {0, 1, 39}},         // elements one by one
      {2, 3, 64, 40, {0, 39}, {1, 0}},   // misaligned
      {2, 3, 64, 40, {0, 39}, {0, 16}},  // pitched
      {1, 1, 512, 20, {0, 19}},          // the longest
  };
  const DType dtype = GetParam();
  Generator generator(8);
  for (const Case& c : cases) {
    const std::int64_t width = c.heads * c.size;
    for (const std::int32_t position : c.positions) {
      SCOPED_TRACE(cat(c.batch, " x ", c.heads, " x ", c.size, " at ", position));
      const auto qkv =
          CudaTensor::normal({c.batch, 3 * width}, dtype, generator, 1.0, 0.0, c.layout);
      const auto cache = CudaTensor::normal({c.batch * c.capacity, 2 * width}, dtype, generator,
                                            1.0, 0.0, c.layout);
      const auto out = CudaTensor::poisoned({c.batch, width}, dtype, c.layout);
      const Tensor want_cache = cache.reference(), want = out.reference();
      const Tensor at = full({1}, position, DType::i32), qkv_ref = qkv.reference();
      run_on(kCpu, arguments(c.size, c.heads, c.capacity, at, qkv_ref, want_cache, want));
      const Tensor at_device = at.to(kCuda);
      run_on(kCuda, arguments(c.size, c.heads, c.capacity, at_device, qkv.tensor(), cache.tensor(),
                              out.tensor()));
      ASSERT_TRUE(all_close(out.values(), want.to_vector<double>(), f32_arithmetic(dtype, 3e-6)));
      ASSERT_EQ(cache.values(), want_cache.to_vector<double>());
      ASSERT_TRUE(out.guards_intact());
      ASSERT_TRUE(cache.guards_intact());
    }
  }
}

TEST_P(CudaCachedAttention, KeepsANanInItsHeadAndRefusesLongHeads) {
  const auto make = [&](std::int64_t size, bool of_query, std::int64_t bad_head) {
    const std::int64_t width = 2 * size;
    const Tensor qkv = zeros({1, 3 * width}, DType::f32), cache = zeros({4, 2 * width}, DType::f32);
    (of_query ? qkv.data<float>() + bad_head * size
              : cache.data<float>() + 2 * 2 * width + bad_head * size)[0] = std::nanf("");
    const Tensor out = zeros({1, width}, GetParam(), kCuda);
    const Tensor at = full({1}, std::int32_t{3}, DType::i32).to(kCuda);
    run_on(kCuda,
           arguments(size, 2, 4, at, qkv.to(kCuda, GetParam()), cache.to(kCuda, GetParam()), out));
    return out.to_vector<double>();
  };
  for (const std::int64_t size : {64, 7}) {  // in packs and element by element
    for (const bool of_query : {true, false}) {
      for (const std::int64_t bad_head : {0, 1}) {
        const std::vector<double> out = make(size, of_query, bad_head);
        for (std::size_t i = 0; i < out.size(); ++i) {
          EXPECT_EQ(std::isnan(out[i]), static_cast<std::int64_t>(i) / size == bad_head)
              << size << " query " << of_query << " element " << i;
        }
      }
    }
  }
  EXPECT_THROW(make(513, false, 0), Error);
}

INSTANTIATE_TEST_SUITE_P(Cuda, CudaCachedAttention, kCudaDTypes, dtype_name);

}  // namespace
}  // namespace lamina::testing
