// SPDX-License-Identifier: MIT
// Times generate() of lamina-gpt on CUDA: GPT-2 124M in bf16 with random weights writes a whole
// context from one token, the first call to warm up. Time is the host's around a call, which waits
// for its tokens: prompt, capture of the graph, every step and every copy of tokens are in it.
#include "benchmarks/kernels/run_record.h"
#include "examples/gpt/generate.h"

#include <cxxopts.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <variant>
#include <vector>

namespace lamina::gpt {
namespace {

constexpr Device kCuda{DeviceKind::cuda, 0};

struct Case {
  std::string name;
  SampleOptions options;
};

double seconds_of(Gpt& model, const SampleOptions& options) {
  const std::vector<std::int32_t> prompt = {0};
  const auto start = std::chrono::steady_clock::now();
  generate(model, prompt, options);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

nlohmann::ordered_json measure(Gpt& model, const Case& one, int repeats) {
  std::vector<double> seconds;
  for (int i = 0; i <= repeats; ++i) {
    const double time = seconds_of(model, one.options);
    if (i > 0) seconds.push_back(time);
  }
  std::sort(seconds.begin(), seconds.end());
  const double median = seconds[seconds.size() / 2];
  const double tokens = static_cast<double>(one.options.count * one.options.length);
  std::printf("%-28s %9.0f tokens/s  %7.1f us a step\n", one.name.c_str(), tokens / median,
              1e6 * median / static_cast<double>(one.options.length));
  return {{"name", one.name},
          {"streams", one.options.count},
          {"new_tokens", one.options.length},
          {"seconds",
           {{"median", median},
            {"least", seconds.front()},
            {"most", seconds.back()},
            {"count", seconds.size()}}},
          {"tokens_per_second", tokens / median}};
}

int run(int argc, const char* const* argv) {
  cxxopts::Options options("generation_bench", "Tokens per second of GPT-2 124M in bf16");
  options.add_options()("json", "file to write", cxxopts::value<std::string>()->default_value(""))(
      "commit", "of the sources, for the file", cxxopts::value<std::string>()->default_value(""))(
      "length", "new tokens", cxxopts::value<std::int64_t>()->default_value("1023"))(
      "repeats", "calls that count", cxxopts::value<int>()->default_value("5"))(
      "only", "name of one case", cxxopts::value<std::string>()->default_value(""))("help", "this");
  const auto args = options.parse(argc, argv);
  if (args.count("help") > 0) {
    std::cout << options.help();
    return 0;
  }
  seed(1);
  Gpt model(GptConfig{});
  model.to(kCuda, DType::bf16);
  const auto length = args["length"].as<std::int64_t>();
  std::vector<Case> cases;
  for (const std::int64_t count : {1, 8, 64}) {
    const std::string streams = std::to_string(count) + (count == 1 ? " stream" : " streams");
    cases.push_back({streams, {.count = count, .length = length}});
    cases.push_back({streams + ", top 50 and 0.9",
                     {.count = count, .length = length, .top_k = 50, .top_p = 0.9}});
  }
  const auto only = args["only"].as<std::string>();
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const Case& one : cases) {
    if (only.empty() || only == one.name)
      rows.push_back(measure(model, one, args["repeats"].as<int>()));
  }
  const auto path = args["json"].as<std::string>();
  if (!path.empty()) {
    auto record = bench::run_record(argc, argv, args["commit"].as<std::string>(),
                                    std::get<CudaStream>(current_stream(kCuda)));
    record["rows"] = rows;
    std::ofstream(path) << record.dump(2) << '\n';
  }
  return 0;
}

}  // namespace
}  // namespace lamina::gpt

int main(int argc, char** argv) {
  return lamina::gpt::run(argc, argv);
}
