// SPDX-License-Identifier: MIT
// LayerNorm and RMSNorm on CUDA streams: the same bits while other work runs, and inside a captured
// graph.
#include "core/cuda/check.h"
#include "tests/kernels/layer_norm_case.h"

#include <cuda_runtime_api.h>

#include <gtest/gtest.h>

#include <limits>
#include <utility>
#include <variant>
#include <vector>

namespace lamina::testing::layer_norm {
namespace {

constexpr Extent kExtents[] = {{533, 768}, {301, 513}, {33, 9001}, {133, 4096}, {5, 40000}};

class CudaNormStreams : public CudaTestWith<Extent> {
 protected:
  void SetUp() override {
    CudaTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    LAMINA_CUDA_CHECK(cudaStreamCreateWithFlags(&side_, cudaStreamNonBlocking));
  }

  void TearDown() override {
    if (side_ != nullptr) cudaStreamDestroy(side_);
  }

  cudaStream_t side_ = nullptr;
};

INSTANTIATE_TEST_SUITE_P(Cuda, CudaNormStreams, ::testing::ValuesIn(kExtents),
                         [](const ::testing::TestParamInfo<Extent>& at) {
                           return cat(at.param.rows, "x", at.param.cols);
                         });

/// Forward and backward of one problem, with its workspace.
class Case {
 public:
  explicit Case(const Problem& p) : on_(p), back_(p) {
    const Stream stream = current_stream(kCuda);
    workspace_ = empty({workspace_bytes_of(stream, back_.args())}, DType::u8, kCuda);
  }

  void launch_both() const {
    const Stream stream = current_stream(kCuda);
    launch(stream, on_.args());
    kernels::LayerNormBackward args = back_.args();
    args.workspace = flat(workspace_);
    launch(stream, args);
  }

  void poison() const {
    for (const CudaTensor* output : outputs())
      output->tensor().fill(std::numeric_limits<double>::quiet_NaN());
  }

  std::vector<std::vector<double>> values() const {
    std::vector<std::vector<double>> all;
    for (const CudaTensor* output : outputs())
      all.push_back(output->values());
    return all;
  }

 private:
  std::vector<const CudaTensor*> outputs() const {
    std::vector<const CudaTensor*> all = {
        &on_.sum, &on_.y, &on_.rstd, &back_.dx, &back_.dx_drop, &back_.dweight, &back_.column_sum};
    if (on_.problem.is_centred()) all.insert(all.end(), {&on_.mean, &back_.dbias});
    return all;
  }

  NormOperands on_;
  BackwardOperands back_;
  Tensor workspace_;
};

TEST_P(CudaNormStreams, GiveTheSameBitsTwentyTimesBesideOtherWork) {
  const Tensor load = empty({1 << 26}, DType::f32, kCuda);  // one fill of it: 60 us or more
  for (const auto& [kind, dtypes] :
       {std::pair(Norm::layer, kNormDTypes[2]), std::pair(Norm::layer, kWideStreamDTypes[0]),
        std::pair(Norm::rms, kNormDTypes[2])}) {
    const Problem problem = problem_of_mode(dtypes, GetParam(), 2, kind);
    SCOPED_TRACE(cat(problem));
    const Case norm(problem);
    norm.launch_both();
    const std::vector<std::vector<double>> first = norm.values();
    synchronize(kCuda);
    for (int repeat = 1; repeat < 20; ++repeat) {
      norm.poison();
      {
        const StreamScope on_side(Stream(CudaStream{side_, 0}));
        for (int i = 0; i < repeat % 4; ++i)
          load.fill(static_cast<double>(i));
      }
      norm.launch_both();
      ASSERT_EQ(norm.values() == first, true) << "run " << repeat;
    }
    synchronize(Stream(CudaStream{side_, 0}));
  }
}

TEST_P(CudaNormStreams, GiveTheSameBitsFromACapturedGraph) {
  for (const Norm kind : kNorms) {
    const Case norm(problem_of_mode({DType::bf16, DType::f32}, GetParam(), 2, kind));
    synchronize(kCuda);
    const cudaStream_t stream = std::get<CudaStream>(current_stream(kCuda)).handle;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    // The first launch of these kernels, so that what they set up once is captured as well.
    LAMINA_CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    norm.launch_both();
    LAMINA_CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
    LAMINA_CUDA_CHECK(cudaGraphInstantiate(&executable, graph, 0));
    std::vector<std::vector<double>> replayed;
    for (int replay = 0; replay < 3; ++replay) {
      norm.poison();
      LAMINA_CUDA_CHECK(cudaGraphLaunch(executable, stream));
      const std::vector<std::vector<double>> now = norm.values();
      if (replay > 0) {
        EXPECT_EQ(now == replayed, true) << "replay " << replay;
      }
      replayed = now;
    }
    norm.poison();
    norm.launch_both();
    EXPECT_EQ(norm.values() == replayed, true) << "launched alone";
    cudaGraphExecDestroy(executable);
    cudaGraphDestroy(graph);
  }
}

}  // namespace
}  // namespace lamina::testing::layer_norm
