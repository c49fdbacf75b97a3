// SPDX-License-Identifier: MIT
// Times LayerNorm and RMSNorm on CUDA: device time per call, calls of many sets of operands in one
// CUDA graph (benchmarks/kernels/cold_timer.h). GB/s counts the fewest bytes, the contract's
// cost(); "copy" is the share of what a plain copy of as many bytes reaches in the same regime.
// Run: layer_norm_bench --json FILE --commit HASH; --help lists the options.
#include "benchmarks/kernels/cold_timer.h"
#include "benchmarks/kernels/norm_operands.h"
#include "benchmarks/kernels/run_record.h"

#include <cxxopts.hpp>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <string>
#include <variant>
#include <vector>

namespace lamina::bench {
namespace {

constexpr const char* kProgram = "layer_norm_bench";

struct Extents {
  std::int64_t rows, cols;
};

/// Where the peers were measured (README, docs/kernels/layer_norm.md).
constexpr Extents kShapes[] = {{8192, 768},  {16384, 1024}, {4096, 2048},  {4096, 4096},
                               {2048, 5120}, {4096, 8192},  {4096, 16384}, {1024, 32768}};
constexpr std::int64_t kSweepRows = 4096;
constexpr std::int64_t kSweepCols[] = {256,   384,   512,   768,   1024, 1280, 1600,
                                       2048,  2560,  3072,  4096,  5120, 6144, 8192,
                                       10240, 12288, 16384, 20480, 32768};

Extents parse_extents(const std::string& text) {
  Extents extents{};
  char end = 0;
  const int read = std::sscanf(text.c_str(), "%ldx%ld%c", &extents.rows, &extents.cols, &end);
  if (read != 2 || extents.rows < 1 || extents.cols < 1) {
    throw Error(cat(kProgram, ": shape is '", text, "', expected ROWSxCOLS, such as 4096x4096"));
  }
  return extents;
}

DType parse_dtype(const std::string& text) {
  for (const DType dtype : {DType::bf16, DType::f16, DType::f32}) {
    if (name_of(dtype) == text) return dtype;
  }
  throw Error(cat(kProgram, ": dtype is '", text, "', expected bf16, f16 or f32"));
}

/// "same" or "f32".
bool is_f32(const std::string& option, const std::string& text) {
  if (text != "same" && text != "f32") {
    throw Error(cat(kProgram, ": --", option, " is '", text, "', expected same or f32"));
  }
  return text == "f32";
}

std::vector<Extents> shapes_of(const cxxopts::ParseResult& options) {
  std::vector<Extents> shapes;
  if (options.count("shape") > 0) {
    for (const std::string& text : options["shape"].as<std::vector<std::string>>())
      shapes.push_back(parse_extents(text));
  }
  if (options.count("sweep-shapes") > 0) {
    for (const std::int64_t cols : kSweepCols)
      shapes.push_back({kSweepRows, cols});
  }
  if (shapes.empty()) shapes.assign(std::begin(kShapes), std::end(kShapes));
  return shapes;
}

std::vector<NormCase> cases_of(const cxxopts::ParseResult& options) {
  std::vector<NormOp> ops;
  if (options.count("op") > 0) {
    for (const std::string& name : options["op"].as<std::vector<std::string>>())
      ops.push_back(norm_op(name, kProgram));
  } else {
    ops.assign(std::begin(kNormOps), std::end(kNormOps));
  }
  const bool has_f32_weights = is_f32("weights", options["weights"].as<std::string>());
  const bool has_f32_stream = is_f32("stream", options["stream"].as<std::string>());
  std::vector<NormCase> cases;
  for (const std::string& text : options["dtype"].as<std::vector<std::string>>()) {
    const DType element = parse_dtype(text);
    for (const NormOp op : ops) {
      for (const Extents& shape : shapes_of(options)) {
        cases.push_back({.op = op,
                         .rows = shape.rows,
                         .cols = shape.cols,
                         .element = element,
                         .stream = has_f32_stream ? DType::f32 : element,
                         .weight = has_f32_weights ? DType::f32 : element});
      }
    }
  }
  return cases;
}

struct Result {
  NormCase norm;
  std::int64_t bytes;  // per call, read and written
  Timing timing;
  double copy_us;  // of a copy of as many bytes
};

double gigabytes_per_second(std::int64_t bytes, double us) {
  return static_cast<double>(bytes) / us / 1e3;
}

/// Times cases; copies of the same size are timed once.
class Bench {
 public:
  Bench(Regime regime, TimerOptions options, CudaStream stream)
      : regime_(regime), options_(options), stream_(stream), pool_(stream) {}

  Result measure(const NormCase& norm) {
    const std::int64_t bytes = bytes_of(norm);
    const int sets = sets_for(regime_, bytes, stream_);
    const double copy_us = measure_copy(bytes, sets);
    const std::vector<NormSet> operands = pool_.sets(norm, sets, contract_workspace(stream_));
    const auto call = [&](int set) { run(operands[static_cast<std::size_t>(set)], stream_); };
    return {norm, bytes, time_calls(call, sets, bytes, stream_, options_), copy_us};
  }

 private:
  double measure_copy(std::int64_t bytes, int sets) {
    const auto [found, is_new] = copy_us_.try_emplace(bytes, 0.0);
    if (is_new) {
      const auto [from, to] = pool_.blocks(sets * copy_set_bytes(bytes));
      found->second = time_copy(from, to, bytes, sets, stream_, options_).median_us;
    }
    return found->second;
  }

  Regime regime_;
  TimerOptions options_;
  CudaStream stream_;
  OperandPool pool_;
  std::map<std::int64_t, double> copy_us_;  // by bytes
};

std::string dtype_text(const NormCase& norm) {
  std::string text(name_of(norm.element));
  if (norm.stream != norm.element) text += cat(", stream ", norm.stream);
  if (norm.weight != norm.element) text += cat(", weights ", norm.weight);
  return text;
}

void print_header() {
  std::printf("%-20s %14s  %-28s %9s %19s %6s %6s\n", "op", "rows x cols", "dtype", "us",
              "p20 - p80", "GB/s", "copy");
}

void print_row(const Result& result) {
  std::printf("%-20s %14s  %-28s %9.2f %9.2f %9.2f %6.0f %5.1f%%\n",
              std::string(name_of(result.norm.op)).c_str(),
              cat(result.norm.rows, " x ", result.norm.cols).c_str(),
              dtype_text(result.norm).c_str(), result.timing.median_us, result.timing.p20_us,
              result.timing.p80_us, gigabytes_per_second(result.bytes, result.timing.median_us),
              100 * result.copy_us / result.timing.median_us);
  std::fflush(stdout);
}

double rounded(double value) {
  return std::round(value * 1e3) / 1e3;
}

nlohmann::ordered_json to_json(const Result& result) {
  return {{"op", name_of(result.norm.op)},
          {"rows", result.norm.rows},
          {"cols", result.norm.cols},
          {"dtype", name_of(result.norm.element)},
          {"stream", name_of(result.norm.stream)},
          {"weights", name_of(result.norm.weight)},
          {"us", rounded(result.timing.median_us)},
          {"us_p20", rounded(result.timing.p20_us)},
          {"us_p80", rounded(result.timing.p80_us)},
          {"bytes", result.bytes},
          {"gb_per_s", rounded(gigabytes_per_second(result.bytes, result.timing.median_us))},
          {"copy_us", rounded(result.copy_us)},
          {"percent_of_copy", rounded(100 * result.copy_us / result.timing.median_us)},
          {"sets", result.timing.sets},
          {"calls_per_replay", result.timing.calls},
          {"replays", result.timing.replays}};
}

cxxopts::Options declare_options() {
  cxxopts::Options options(kProgram, "Device time of LayerNorm and RMSNorm on CUDA");
  auto add = options.add_options();
  add("op", "what to time, separated by commas (default: all)",
      cxxopts::value<std::vector<std::string>>());
  add("shape", "ROWSxCOLS, separated by commas (default: where the peers were measured)",
      cxxopts::value<std::vector<std::string>>());
  add("sweep-shapes", "4096 rows of 256 to 32768 columns, beside those of --shape");
  add("dtype", "bf16, f16, f32, separated by commas",
      cxxopts::value<std::vector<std::string>>()->default_value("bf16"));
  add("weights", "dtype of weight and bias: same or f32",
      cxxopts::value<std::string>()->default_value("same"));
  add("stream", "dtype of the residual stream: same or f32",
      cxxopts::value<std::string>()->default_value("same"));
  add("regime", "operands come from device memory (cold) or, if they fit, the L2 cache (hot)",
      cxxopts::value<std::string>()->default_value("cold"));
  add("replays", "timed replays of each graph", cxxopts::value<int>()->default_value("15"));
  add("json", "file to write the results to", cxxopts::value<std::string>());
  add("commit", "commit that was built, for the JSON",
      cxxopts::value<std::string>()->default_value("unknown"));
  add("help", "this text");
  return options;
}

int bench_main(int argc, char** argv) {
  cxxopts::Options declared = declare_options();
  const cxxopts::ParseResult options = declared.parse(argc, argv);
  if (options.count("help") > 0) {
    std::cout << declared.help();
    return EXIT_SUCCESS;
  }
  const std::string regime = options["regime"].as<std::string>();
  if (regime != "cold" && regime != "hot") {
    throw Error(cat(kProgram, ": --regime is '", regime, "', expected cold or hot"));
  }
  const int replays = options["replays"].as<int>();
  if (replays < 1) throw Error(cat(kProgram, ": --replays is ", replays, ", expected 1 or more"));
  const std::vector<NormCase> cases = cases_of(options);
  const auto stream = std::get<CudaStream>(current_stream({DeviceKind::cuda, 0}));
  Bench bench(regime == "cold" ? Regime::cold : Regime::hot, {.replays = replays}, stream);

  nlohmann::ordered_json json = run_record(argc, argv, options["commit"].as<std::string>(), stream);
  json["regime"] = regime;
  json["statistic"] = "median, p20 and p80 over replays of the mean device time per call";
  json["rows"] = nlohmann::ordered_json::array();
  print_header();
  for (const NormCase& norm : cases) {
    const Result result = bench.measure(norm);
    print_row(result);
    json["rows"].push_back(to_json(result));
  }
  if (options.count("json") > 0) {
    const std::string path = options["json"].as<std::string>();
    std::ofstream file(path);
    file << json.dump(1) << '\n';
    if (!file.flush()) throw Error(cat(kProgram, ": cannot write ", path));
  }
  return EXIT_SUCCESS;
}

}  // namespace
}  // namespace lamina::bench

int main(int argc, char** argv) {
  try {
    return lamina::bench::bench_main(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return EXIT_FAILURE;
  }
}
