// SPDX-License-Identifier: MIT
// lamina-gpt doctor, and the facts about the machine that it shares with the log of a run.
#include "examples/gpt/machine.h"
#include "tests/examples/gpt_case.h"
#include "tests/support/cuda_case.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>
#include <string>
#if LAMINA_WITH_CUDA
#include "core/cuda/cupti.h"
#endif

namespace lamina::gpt {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

/// The number that the first group of the pattern finds; -1 when it finds nothing.
double number_in(const std::string& text, const std::string& pattern) {
  std::smatch found;
  return std::regex_search(text, found, std::regex(pattern)) ? std::stod(found[1]) : -1.0;
}

TEST(Doctor, ShowsTheMachineAndWhatTheCpuReaches) {
  const Outcome outcome = run({"doctor", "--device", "cpu", "--threads", "1"});
  EXPECT_EQ(outcome.status, 0) << outcome.out << outcome.errors;
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("lamina    "), HasSubstr("OpenMP 1 threads"),
                                 HasSubstr("features  "), HasSubstr("memory    "),
                                 HasSubstr("blas      "), HasSubstr("train     cpu f32")));
  EXPECT_GT(number_in(outcome.out, "copy ([0-9.]+) GB/s"), 0.0);
  EXPECT_GT(number_in(outcome.out, "f32 matmul ([0-9.]+) TFLOP/s"), 0.0);
}

TEST(Doctor, NamesTheVectorInstructions) {
  EXPECT_EQ(vector_features("fpu sse4_2 avx2x avx2 fma"), "sse4_2 avx2 fma");
  EXPECT_EQ(vector_features("fp asimdhp"), "asimdhp");
  EXPECT_EQ(vector_features(""), "none");
}

TEST(Doctor, EveryMissingThingSaysHowToGetIt) {
  for (const std::string& what : missing_things())
    EXPECT_THAT(what, HasSubstr(": "));
  EXPECT_EQ(
      LAMINA_WITH_CUDA == 1 && cuda_device_count() == 0,
      ::testing::Matches(::testing::Contains(HasSubstr("a CUDA device (")))(missing_things()));
}

TEST(Doctor, NamesWhatTracesNeed) {
  std::string why;
#if LAMINA_WITH_CUDA
  why = cuda::why_no_cupti();
  EXPECT_TRUE(why.empty() || why.find("; install the package ") != std::string::npos) << why;
#endif
  EXPECT_EQ(!why.empty(), ::testing::Matches(::testing::Contains(
                              HasSubstr("what profile needs on CUDA: " + why)))(missing_things()));
}

using CudaDoctor = testing::CudaTest;

TEST_F(CudaDoctor, ShowsDriverClocksAndCeilings) {
  const Outcome outcome = run({"doctor", "--device", "cuda:0"});
  EXPECT_EQ(outcome.status, 0) << outcome.out << outcome.errors;
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("cuda:0"), HasSubstr("train     cuda:0 bf16")));
  EXPECT_GT(number_in(outcome.out, "multiprocessors ([0-9]+) of at most"), 0.0);
  EXPECT_GT(number_in(outcome.out, "toolkit ([0-9.]+), driver [0-9]+"), 12.0);
  EXPECT_GT(number_in(outcome.out, "copy ([0-9.]+) GB/s"), 100.0);
  EXPECT_GT(number_in(outcome.out, "bf16 matmul ([0-9.]+) TFLOP/s"), 10.0);
}

}  // namespace
}  // namespace lamina::gpt
