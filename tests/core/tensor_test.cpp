// SPDX-License-Identifier: MIT
#include "core/tensor.h"

#include "core/caching_allocator.h"
#include "core/expect.h"
#include "core/host_memory.h"
#include "core/kernels/random_fill.h"
#include "tests/support/cuda_case.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <sstream>

namespace lamina {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Tensor counting(const Shape& shape, DType dtype = DType::f32) {
  std::vector<float> values(static_cast<std::size_t>(shape.elements()));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(i);
  return from_vector(values, shape).to(dtype);
}

// Runs f and returns the text of the exception of type E that it throws.
template <class E, class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const E& error) {
    return error.what();
  } catch (const std::exception& error) {
    return std::string("another exception: ") + error.what();
  }
  return "no exception";
}

TEST(Shape, CountsElementsAndIndexesFromBothEnds) {
  constexpr Shape kShape{8, 1024, 768};
  static_assert(kShape.elements() == 8 * 1024 * 768);
  EXPECT_EQ(kShape[-1], 768);
  EXPECT_EQ(kShape.sub(0, -1), (Shape{8, 1024}));
  EXPECT_EQ(kShape.with(-1, 3), (Shape{8, 1024, 3}));
  EXPECT_EQ(cat(kShape), "[8, 1024, 768]");
  EXPECT_EQ(Shape{}.elements(), 1);
}

TEST(Shape, RefusesWhatCannotBe) {
  EXPECT_THAT(error_of<ShapeError>([] {
                (void)(Shape{1 << 30, 1 << 30, 1 << 30}).elements();
              }),
              HasSubstr("overflows"));
  EXPECT_THAT(error_of<ShapeError>([] { Shape{2, -1}; }), HasSubstr("extent is -1"));
  EXPECT_THAT(error_of<ShapeError>([] { Shape{1, 1, 1, 1, 1, 1, 1}; }), HasSubstr("rank is 7"));
  EXPECT_THAT(error_of<ShapeError>([] { (void)Shape{2}[1]; }), HasSubstr("dimension 1 of [2]"));
}

TEST(Device, ParsesItsNames) {
  EXPECT_EQ(Device::parse("cpu"), kCpu);
  EXPECT_EQ(Device::parse("cuda"), (Device{DeviceKind::cuda, 0}));
  EXPECT_EQ(Device::parse("cuda:3"), (Device{DeviceKind::cuda, 3}));
  for (const char* text : {"", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", "CPU"}) {
    EXPECT_THAT(error_of<DeviceError>([&] { Device::parse(text); }),
                HasSubstr("expected cpu, cuda"))
        << text;
  }
}

TEST(Device, HasAnIndexThatExists) {
  for (const int index : {-1, 97}) {
    EXPECT_THAT(
        error_of<DeviceError>([&] {
          empty({1}, DType::f32, {DeviceKind::cuda, index});
        }),
        HasSubstr(cat("device: cuda:", index, " does not exist, expected an index in [0, ")));
  }
  EXPECT_THAT(error_of<DeviceError>([] {
                empty({1}, DType::f32, {DeviceKind::cpu, 1});
              }),
              HasSubstr("device: cpu has index 1, expected 0"));
}

TEST(DType, RoundsTo16BitFloatsToNearestEven) {
  EXPECT_EQ(static_cast<float>(BFloat16(1.0F)), 1.0F);
  EXPECT_EQ(static_cast<float>(BFloat16(1.0F + 0x1p-8F)), 1.0F);            // tie to even
  EXPECT_EQ(static_cast<float>(BFloat16(1.0F + 0x3p-8F)), 1.0F + 0x1p-6F);  // tie to even, upwards
  EXPECT_TRUE(std::isnan(static_cast<float>(BFloat16(std::nanf("")))));
  EXPECT_EQ(static_cast<float>(Half(65504.0F)), 65504.0F);
  EXPECT_TRUE(std::isinf(static_cast<float>(Half(65520.0F))));
  EXPECT_EQ(static_cast<float>(Half(0x1p-24F)), 0x1p-24F);
  EXPECT_EQ(static_cast<float>(Half(0x1p-25F)), 0.0F);
  EXPECT_EQ(static_cast<float>(Half(-2.5F)), -2.5F);
  EXPECT_TRUE(std::isnan(static_cast<float>(Half(std::nanf("")))));
}

TEST(DType, ConvertsEveryHalfToFloatAndBack) {
  for (std::uint32_t bits = 0; bits < 0x7c00U; ++bits) {
    Half half;
    half.bits = static_cast<std::uint16_t>(bits);
    ASSERT_EQ(Half(static_cast<float>(half)).bits, half.bits) << bits;
  }
}

TEST(Tensor, SharesDataBetweenHandlesAndViews) {
  const Tensor a = counting({3, 4});
  const Tensor column = a.slice(1, 1, 3);
  column.fill(-1.0);
  EXPECT_THAT(a.to_vector<float>(), ElementsAre(0, -1, -1, 3, 4, -1, -1, 7, 8, -1, -1, 11));
  EXPECT_FALSE(is_sole_owner(a));
}

TEST(Tensor, ReshapesWithOneOpenExtent) {
  const Tensor a = counting({2, 6});
  EXPECT_EQ(a.reshape({3, -1}).shape(), (Shape{3, 4}));
  EXPECT_THAT(error_of<ShapeError>([&] { a.reshape({5, -1}); }), HasSubstr("do not divide"));
  EXPECT_THAT(error_of<ShapeError>([&] { a.reshape({-1, -1}); }), HasSubstr("at most one"));
  EXPECT_THAT(error_of<ShapeError>([&] { a.reshape({13}); }), HasSubstr("expected 12"));
  EXPECT_THAT(error_of<ShapeError>([&] { a.slice(1, 0, 2).reshape({4}); }),
              HasSubstr("call contiguous() first"));
}

TEST(Tensor, TransposesAndMakesContiguous) {
  const Tensor a = counting({2, 3});
  const Tensor t = a.transpose(0, 1);
  EXPECT_FALSE(t.is_contiguous());
  EXPECT_THAT(t.contiguous().to_vector<float>(), ElementsAre(0, 3, 1, 4, 2, 5));
  EXPECT_EQ(a.contiguous().data(), a.data());
}

TEST(Tensor, ConvertsDtypes) {
  const Tensor a = from_vector<float>({1.5F, -2.0F, 3.25F}, {3});
  EXPECT_THAT(a.to(DType::f64).to_vector<double>(), ElementsAre(1.5, -2.0, 3.25));
  EXPECT_THAT(a.to(DType::bf16).to_vector<float>(), ElementsAre(1.5F, -2.0F, 3.25F));
  EXPECT_THAT(a.to(DType::i32).to_vector<std::int32_t>(), ElementsAre(1, -2, 3));
  EXPECT_EQ(a.to(DType::f32).data(), a.data());
}

TEST(Tensor, RoundsDoublesTo16BitsOnce) {
  const Tensor a = from_vector<double>(
      {1.0 + 0x1p-8 + 0x1p-40, 1.0 + 0x1p-8, -(1.0 + 0x1p-8 + 0x1p-40), 1e300, 0x1p-140}, {5});
  EXPECT_THAT(a.to(DType::bf16).to_vector<float>(),
              ElementsAre(1.0F + 0x1p-7F, 1.0F, -(1.0F + 0x1p-7F),
                          std::numeric_limits<float>::infinity(), 0.0F));
}

TEST(AllocatorScope, GivesTensorsMemoryOfAnotherAllocator) {
  CachingAllocator pool(host_memory());
  {
    const AllocatorScope scope(kCpu, pool);
    const Tensor a = full({100}, 1.0);
    EXPECT_GE(pool.stats().live, 400U);
    EXPECT_EQ(a.to_vector<float>(), std::vector<float>(100, 1.0F));
  }
  EXPECT_EQ(pool.stats().live, 0U);
  (void)full({100}, 1.0);
  EXPECT_EQ(pool.stats().live, 0U);
}

TEST(Tensor, CopiesBetweenStridedViews) {
  const Tensor a = counting({4, 4});
  const Tensor b = zeros({4, 4}, DType::f64);
  b.slice(0, 1, 3).slice(1, 2, 4).copy_from(a.slice(0, 0, 2).slice(1, 1, 3));
  EXPECT_THAT(b.slice(0, 1, 3).slice(1, 2, 4).contiguous().to_vector<double>(),
              ElementsAre(1, 2, 5, 6));
  EXPECT_EQ(b.slice(0, 3, 4).contiguous().to_vector<double>(), std::vector<double>(4, 0.0));
  EXPECT_THAT(error_of<ShapeError>([&] {
                b.copy_from(counting({2, 2}));
              }),
              HasSubstr("expected [4, 4]"));
}

TEST(Tensor, ItemNeedsOneElementAndDataItsOwnType) {
  EXPECT_EQ(full({1, 1}, 2.5).item<double>(), 2.5);
  EXPECT_EQ(full({}, 7.0, DType::i64).item<int>(), 7);
  EXPECT_THAT(error_of<ShapeError>([] { (void)counting({2}).item<float>(); }), HasSubstr("[2]"));
  EXPECT_THAT(error_of<DTypeError>([] { (void)counting({2}).data<double>(); }), HasSubstr("f32"));
}

TEST(Tensor, AnEmptyHandleHasNoValues) {
  EXPECT_THAT(error_of<Error>([] { (void)Tensor().to_vector<float>(); }),
              HasSubstr("to_vector: tensor is an empty handle"));
}

TEST(Tensor, RefusesSizesBeyond64Bits) {
  EXPECT_THROW(empty({std::numeric_limits<std::int64_t>::max(), 2}), ShapeError);
  EXPECT_THROW(empty({std::numeric_limits<std::int64_t>::max() / 2}), ShapeError);
}

TEST(Tensor, HandlesNoElements) {
  const Tensor a = empty({0, 5});
  EXPECT_TRUE(a.is_contiguous());
  a.fill(1.0);
  EXPECT_TRUE(a.clone().to_vector<float>().empty());
  EXPECT_EQ(rows(a).rows, 0);
  EXPECT_TRUE(empty({0, std::int64_t{1} << 40, std::int64_t{1} << 40}).is_contiguous());
}

TEST(Tensor, GivesRowsWithAPitchButNotStridedColumns) {
  const Tensor a = counting({2, 3, 8});
  const Rows view = rows(a.slice(2, 2, 6));
  EXPECT_EQ(view.rows, 6);
  EXPECT_EQ(view.cols, 4);
  EXPECT_EQ(view.stride, 8);
  EXPECT_EQ(view.as<float>()[view.stride], 10.0F);
  EXPECT_EQ(rows(a.slice(1, 0, 1)).stride, 24);
  EXPECT_THROW(rows(a.slice(1, 0, 2)), ShapeError);  // two pitches
  EXPECT_THROW(rows(a.transpose(1, 2)), ShapeError);
  EXPECT_THROW(flat(a.slice(2, 0, 4)), ShapeError);
}

TEST(Tensor, RefusesRowsThatOverlap) {
  const Tensor a = counting({12});
  for (const std::int64_t stride : {0, 2}) {
    const Tensor repeated(a.storage(), 0, {3, 4}, {stride, 1}, DType::f32);
    EXPECT_THAT(error_of<ShapeError>([&] { rows(repeated); }), HasSubstr("overlapping rows"));
    EXPECT_EQ(repeated.contiguous().to_vector<float>()[4], static_cast<float>(stride));
  }
}

TEST(Tensor, FillsAnyView) {
  const Tensor a = zeros({2, 3, 4});
  a.slice(1, 0, 2).slice(2, 1, 2).transpose(0, 2).fill(1.0);
  EXPECT_THAT(a.to_vector<float>(), ElementsAre(0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0,  //
                                                0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0));
}

TEST(Tensor, PrintsShapeTypeAndShortenedValues) {
  std::ostringstream out;
  out << counting({2, 8});
  EXPECT_EQ(out.str(), "[2, 8] f32 cpu [[0, 1, 2, ..., 5, 6, 7], [8, 9, 10, ..., 13, 14, 15]]");
  out << ' ' << 0.1234567;  // with the precision of before
  EXPECT_THAT(out.str(), HasSubstr("15]] 0.123457"));
}

TEST(RandomFill, MakesTheNumbersOfTheirPlaces) {
  const PhiloxRegion region{.seed = 5, .offset = 9};
  constexpr std::int64_t kCount = 40001;  // several pieces, and half a pair
  for (const DType dtype : {DType::f32, DType::f64}) {
    const Tensor normal = empty({kCount}, dtype), uniform = empty({kCount}, dtype);
    run(kernels::RandomFill{.y = flat(normal), .region = region, .scale = 0.02}, CpuStream{});
    run(kernels::RandomFill{.y = flat(uniform),
                            .region = region,
                            .kind = kernels::RandomKind::uniform,
                            .shift = -1.0,
                            .scale = 3.0},
        CpuStream{});
    const std::vector<double> z = normal.to_vector<double>(), u = uniform.to_vector<double>();
    for (std::int64_t i = 0; i < kCount; ++i) {
      const auto at = static_cast<std::size_t>(i);
      const double want_z = 0.02 * normal_at(region, at),
                   want_u = 3.0 * uniform_at(region, at) - 1.0;
      ASSERT_EQ(z[at],
                dtype == DType::f64 ? want_z : static_cast<double>(static_cast<float>(want_z)));
      ASSERT_EQ(u[at],
                dtype == DType::f64 ? want_u : static_cast<double>(static_cast<float>(want_u)));
    }
  }
}

TEST(Generator, GivesKnownPhiloxWords) {
  // The reference vectors of the paper's implementation: counter and key all zero, and all ones.
  EXPECT_THAT(philox({0, 0, 0, 0}, {0, 0}),
              ElementsAre(0x6627e8d5U, 0xe169c58dU, 0xbc57ac4cU, 0x9b00dbd8U));
  constexpr std::uint32_t kOnes = 0xffffffffU;
  EXPECT_THAT(philox({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
              ElementsAre(0x408f276dU, 0x41c83b0eU, 0xa20bc7c6U, 0x6d5451fdU));
}

TEST(Generator, RepeatsFromASeedAndNeverWithinOne) {
  Generator a(5);
  Generator b(5);
  const Tensor first = randn({1000}, a);
  EXPECT_EQ(first.to_vector<float>(), randn({1000}, b).to_vector<float>());
  EXPECT_NE(first.to_vector<float>(), randn({1000}, a).to_vector<float>());
}

TEST(Generator, MakesNormalAndUniformNumbers) {
  Generator generator(11);
  constexpr int kCount = 200000;
  double sum = 0.0;
  double squares = 0.0;
  double fourth = 0.0;
  for (const double x : randn({kCount}, generator, DType::f64).to_vector<double>()) {
    sum += x;
    squares += x * x;
    fourth += x * x * x * x;
  }
  EXPECT_NEAR(sum / kCount, 0.0, 4.0 / std::sqrt(kCount));
  EXPECT_NEAR(squares / kCount, 1.0, 4.0 * std::sqrt(2.0 / kCount));
  EXPECT_NEAR(fourth / kCount, 3.0, 4.0 * std::sqrt(96.0 / kCount));
  const std::vector<double> u =
      uniform({kCount}, -1.0, 3.0, generator, DType::f64).to_vector<double>();
  double mean = 0.0;
  for (const double x : u) {
    ASSERT_GE(x, -1.0);
    ASSERT_LT(x, 3.0);
    mean += x / kCount;
  }
  EXPECT_NEAR(mean, 1.0, 4.0 * 4.0 / std::sqrt(12.0 * kCount));
}

TEST(Expect, SaysWhatIsAndWhatWasExpected) {
  EXPECT_EQ(error_of<ShapeError>([] {
              expect_shape("layer_norm", "weight", counting({512}), {768},
                           "the last dimension of x");
            }),
            "layer_norm: weight has shape [512], expected [768] (the last dimension of x)");
  EXPECT_EQ(error_of<DTypeError>([] { expect_float("gelu", "x", counting({2}, DType::i32)); }),
            "gelu: x has dtype i32, expected f32 or f64 (what cpu computes in); convert with "
            ".to(DType::f32)");
  EXPECT_THAT(error_of<Error>([] { expect_defined("gelu", "x", Tensor()); }),
              HasSubstr("empty handle"));
  EXPECT_THAT(error_of<Error>([] { expect_probability("dropout", "p", 1.0); }),
              HasSubstr("expected 0 <= p < 1"));
}

class CudaTransfer : public testing::CudaTest {};

TEST_F(CudaTransfer, TravelsToTheDeviceAndBack) {
  const Device gpu = Device::parse("cuda");
  const Tensor a = counting({3, 5, 7});
  for (const DType dtype :
       {DType::f32, DType::f16, DType::bf16, DType::f64, DType::i32, DType::i64, DType::u8}) {
    EXPECT_EQ(a.to(gpu).to(dtype).to(kCpu).to_vector<float>(), a.to_vector<float>()) << dtype;
    EXPECT_EQ(a.to(dtype).to(gpu).to_vector<float>(), a.to_vector<float>()) << dtype;
  }
}

TEST_F(CudaTransfer, CopiesStridedViewsAcrossDevices) {
  const Device gpu = Device::parse("cuda");
  const Tensor a = counting({4, 6}).to(gpu);
  EXPECT_THAT(a.slice(1, 4, 6).slice(0, 0, 2).to_vector<float>(), ElementsAre(4, 5, 10, 11));
  EXPECT_THAT(a.slice(0, 0, 2).transpose(0, 1).to_vector<float>(),
              ElementsAre(0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11));
  a.slice(1, 0, 1).copy_from(full({4, 1}, -1.0));
  EXPECT_THAT(a.slice(1, 0, 2).to_vector<float>(), ElementsAre(-1, 1, -1, 7, -1, 13, -1, 19));
}

TEST_F(CudaTransfer, HasTheSameRandomNumbersAsTheCpu) {
  Generator a(3);
  Generator b(3);
  EXPECT_EQ(randn({257}, a).to_vector<float>(),
            randn({257}, b, DType::f32, Device::parse("cuda")).to_vector<float>());
}

}  // namespace
}  // namespace lamina
