// SPDX-License-Identifier: MIT
// The allocator's promises on a real device: memory that a second stream still uses is not handed
// out.
#include "core/cuda/check.h"
#include "core/tensor.h"
#include "tests/support/cuda_case.h"

#include <cuda_runtime_api.h>

#include <gtest/gtest.h>

namespace lamina {
namespace {

class CudaStreams : public testing::CudaTest {
 protected:
  void SetUp() override {
    CudaTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    LAMINA_CUDA_CHECK(cudaStreamCreateWithFlags(&side_, cudaStreamNonBlocking));
  }

  void TearDown() override {
    if (side_ != nullptr) cudaStreamDestroy(side_);
  }

  Stream side() const { return CudaStream{side_, 0}; }

  cudaStream_t side_ = nullptr;
};

TEST_F(CudaStreams, ABlockUsedOnASecondStreamIsNeverHandedOutEarly) {
  const Device gpu = Device::parse("cuda");
  constexpr int kTrials = 1000;
  constexpr std::int64_t kElements = 1 << 18;
  const Tensor delay = empty({1 << 26}, DType::f32, gpu);  // one fill of it: 60 us or more
  delay.fill(0.0);
  synchronize(gpu);
  int waited = 0;
  for (int trial = 0; trial < kTrials; ++trial) {
    const void* address = nullptr;
    {
      const Tensor block = empty({kElements}, DType::f32, gpu);
      address = block.data();
      block.storage()->use_on(side());
      const StreamScope on_side(side());
      for (int i = 0; i < 1 + trial % 3; ++i)
        delay.fill(1.0);
      block.fill(-1.0);  // happens long after the handle is gone
    }
    const Tensor next = empty({kElements}, DType::f32, gpu);
    waited += next.data() != address ? 1 : 0;
    next.fill(static_cast<double>(trial));
    if (trial % 2 == 0) synchronize(side());
    const std::vector<float> seen = next.to_vector<float>();
    synchronize(side());
    const std::vector<float> after = next.to_vector<float>();
    ASSERT_EQ(seen.front(), static_cast<float>(trial));
    ASSERT_EQ(after.front(), static_cast<float>(trial));
    ASSERT_EQ(after.back(), static_cast<float>(trial));
  }
  EXPECT_GT(waited, kTrials / 2) << "the side stream was never behind: the test shows nothing";
}

TEST_F(CudaStreams, ReusesABlockAtOnceOnItsOwnStream) {
  const Device gpu = Device::parse("cuda");
  const void* address = empty({12345}, DType::f32, gpu).data();
  EXPECT_EQ(empty({12345}, DType::f32, gpu).data(), address);
}

TEST_F(CudaStreams, OutOfMemoryNamesTheNumbersAndLeavesTheDeviceUsable) {
  const Device gpu = Device::parse("cuda");
  const std::size_t total = device_info(gpu).total_memory;
  try {
    (void)empty({static_cast<std::int64_t>(total) + 1}, DType::u8, gpu);
    FAIL() << "no exception";
  } catch (const OutOfMemory& error) {
    EXPECT_NE(std::string(error.what()).find("out of memory on cuda:0"), std::string::npos)
        << error.what();
    EXPECT_GT(error.requested, total);
  }
  EXPECT_EQ(full({3}, 2.0, DType::f32, gpu).to_vector<float>(), std::vector<float>(3, 2.0F));
}

}  // namespace
}  // namespace lamina
