// SPDX-License-Identifier: MIT
// Tunes the row kernels on the GPU at hand: measures every policy of a declared space that is
// legal, sensible and free of local memory, cold, and writes the table that is chosen from them
// (cuda_kernels/tuning/layer_norm_sm90.h). Each problem has two rounds: all candidates with few
// replays, then the best again with more.
// Run: layer_norm_sweep --json sweep.json --header cuda_kernels/tuning/layer_norm_sm90.h
// Without a GPU: layer_norm_sweep --from sweep.json --header ... rebuilds the header.
#include "benchmarks/kernels/cold_timer.h"
#include "benchmarks/kernels/layer_norm_table.h"
#include "benchmarks/kernels/norm_operands.h"
#include "benchmarks/kernels/run_record.h"
#include "core/cuda/check.h"
#include "cuda_kernels/row_norm.h"
#include "cuda_kernels/tuning/layer_norm.h"

#include <cuda_runtime_api.h>

#include <cxxopts.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <variant>
#include <vector>

namespace lamina::bench {
namespace {

using kernels::LayerNorm;
using kernels::LayerNormBackward;
using kernels::tuning::kAnyRows;
using kernels::tuning::RowPolicy;
using kernels::tuning::RowProblem;
using kernels::tuning::RowVariant;
using Pass = SweptProblem::Pass;

constexpr const char* kProgram = "layer_norm_sweep";

// The space: every combination of a line is a candidate.
struct Space {
  RowVariant variant;
  std::vector<int> packs, block_threads, cluster, stages, blocks_per_sm;
};

const std::vector<Space> kForwardSpace = {
    {RowVariant::held, {1, 2, 3, 4, 6, 8}, {32, 64, 128, 256, 512, 1024}, {1}, {0}, {0}},
    {RowVariant::ring, {0}, {256, 512}, {1}, {2, 3}, {1, 2, 3}},
    {RowVariant::cluster, {2, 4, 8}, {128, 256, 512}, {1, 2, 4, 8}, {3, 4}, {1, 2, 3, 4}},
    {RowVariant::streamed, {0}, {128, 256, 512}, {1}, {0}, {0}}};

const std::vector<Space> kBackwardSpace = {
    {RowVariant::ring, {1, 2, 3, 4, 6}, {64, 128, 256, 384, 512}, {1}, {2, 3}, {1, 2, 3, 4}},
    {RowVariant::cluster, {1, 2, 4}, {64, 128, 256, 512}, {2, 4, 8}, {3, 4}, {1, 2, 3, 4}},
    {RowVariant::streamed, {0}, {256, 512}, {1}, {0}, {1, 2}}};

// The problems. A number of rows stands for up to twice as many; `large` for everything above, and
// where it is no more, for all.
constexpr std::int64_t kCols[] = {64,    128,   256,   384,   512,   768,   1024,  1280,
                                  1600,  2048,  2560,  3072,  4096,  5120,  6144,  8192,
                                  10240, 12288, 16384, 20480, 24576, 32768, 49152, 65536};
constexpr const char* kRows = "256,4096,8192,large";
constexpr const char* kOps = "forward,add_forward,backward,add_backward,backward_column_sum";
constexpr const char* kDtypes = "bf16,f32";

constexpr TimerOptions kFirstRound = {.replays = 3, .warm_up_replays = 1, .least_replay_us = 300};
constexpr TimerOptions kSecondRound = {
    .replays = 15, .warm_up_replays = 2, .least_replay_us = 1000};
constexpr std::size_t kFinalists = 4;
constexpr int kMaxSets = 1024;  // graphs of more calls take longer to make than to run

/// The power of two that makes x and y 64 MB, and enough to fill the GPU several times.
std::int64_t large_rows(std::int64_t cols, DType element) {
  const std::int64_t row_bytes = 2 * cols * static_cast<std::int64_t>(size_of(element));
  std::int64_t rows = cols <= 16384 ? 4096 : 2048;
  while (rows * row_bytes < std::int64_t{64} << 20)
    rows *= 2;
  return rows;
}

/// Less than half of the threads of a row idle; 8 to 64 warps per multiprocessor and the shared
/// memory of all its blocks there at once, where the policy says how many blocks that are.
bool is_sensible(const RowPolicy& policy, const RowProblem& problem, int shared_bytes) {
  const int threads = policy.threads_per_row(problem);
  const int block_threads = threads * policy.rows_per_block(problem);
  if (policy.packs > 0) {
    const std::int64_t columns =
        std::int64_t{policy.packs} * problem.width() * threads * policy.cluster;
    if (2 * problem.cols < columns) return false;
  }
  if (policy.blocks_per_sm == 0) return true;
  const int warps = policy.blocks_per_sm * (block_threads / 32);
  constexpr int kReserved = 1024;  // bytes of shared memory that each block takes beside its own
  const int limit = kernels::tuning::shared_limit(problem.sm);
  return warps >= 8 && warps <= 64 && policy.blocks_per_sm * (shared_bytes + kReserved) <= limit;
}

std::vector<RowPolicy> candidates_of(const RowProblem& problem, Pass pass) {
  const bool is_forward = pass == Pass::forward;
  std::vector<RowPolicy> candidates;
  const auto consider = [&](const RowPolicy& policy) {
    const bool is_legal = is_forward ? kernels::tuning::is_legal_forward(policy, problem)
                                     : kernels::tuning::is_legal_backward(policy, problem);
    if (!is_legal) return;
    const int shared_bytes = is_forward ? kernels::tuning::forward_shared_bytes(policy, problem)
                                        : kernels::tuning::backward_shared_bytes(policy, problem);
    if (!is_sensible(policy, problem, shared_bytes)) return;
    candidates.push_back(policy);
  };
  for (const Space& space : is_forward ? kForwardSpace : kBackwardSpace) {
    for (const int packs : space.packs) {
      for (const int block_threads : space.block_threads) {
        for (const int cluster : space.cluster) {
          for (const int stages : space.stages) {
            for (const int blocks_per_sm : space.blocks_per_sm)
              consider({space.variant, packs, block_threads, cluster, stages, blocks_per_sm});
          }
        }
      }
    }
  }
  return candidates;
}

RowPolicy rule_for(const RowProblem& problem, Pass pass) {
  return pass == Pass::forward ? kernels::tuning::forward_rule(problem)
                               : kernels::tuning::backward_rule(problem);
}

struct Task {
  NormCase norm;
  std::int64_t max_rows;  // up to which its result stands
};

class Sweep {
 public:
  explicit Sweep(CudaStream stream) : stream_(stream), pool_(stream) {}

  /// Empty when no candidate runs.
  std::optional<SweptProblem> measure(const Task& task) {
    const std::int64_t bytes = bytes_of(task.norm);
    const int sets = std::min(kMaxSets, sets_for(Regime::cold, bytes, stream_));
    SweptProblem swept{.max_rows = task.max_rows, .bytes = bytes, .sets = sets};
    swept.copy_us = measure_copy(bytes, sets);

    const NormCall call = pool_.sets(task.norm, 1, [](const NormCall&) { return 0; }).at(0).at(0);
    swept.pass = std::holds_alternative<LayerNorm>(call) ? Pass::forward : Pass::backward;
    swept.problem = problem_of(call);
    swept.rule = rule_for(swept.problem, swept.pass);
    std::vector<RowPolicy> candidates = candidates_of(swept.problem, swept.pass);
    if (std::find(candidates.begin(), candidates.end(), swept.rule) == candidates.end()) {
      candidates.push_back(swept.rule);
    }
    std::erase_if(candidates,
                  [&](const RowPolicy& policy) { return local_bytes_of(policy, call) != 0; });

    const auto most_workspace = [&](const NormCall& args) {
      std::int64_t most = 0;
      for (const RowPolicy& policy : candidates)
        most = std::max(most, workspace_of(policy, args));
      return most;
    };
    const std::vector<NormSet> operands = pool_.sets(task.norm, sets, most_workspace);
    for (const RowPolicy& policy : candidates) {
      if (const auto timing = time_policy(policy, operands, bytes, kFirstRound)) {
        swept.points.push_back(measured(policy, *timing));
      }
    }
    repeat_the_best(swept, operands);
    if (swept.points.empty()) return std::nullopt;
    return swept;
  }

 private:
  static MeasuredPolicy measured(const RowPolicy& policy, const Timing& timing) {
    return {policy, timing.median_us, timing.p20_us, timing.p80_us, timing.replays};
  }

  /// Sorts by time; the first kFinalists, and the rule for comparison, have the replays of the
  /// second round. A repeated point can fall behind, then the next takes its place.
  void repeat_the_best(SweptProblem& swept, const std::vector<NormSet>& operands) {
    for (;;) {
      std::sort(swept.points.begin(), swept.points.end(),
                [](const auto& a, const auto& b) { return a.median_us < b.median_us; });
      std::size_t rank = 0;
      const auto next =
          std::find_if(swept.points.begin(), swept.points.end(), [&](const MeasuredPolicy& point) {
            const bool is_wanted = rank++ < kFinalists || point.policy == swept.rule;
            return is_wanted && point.replays < kSecondRound.replays;
          });
      if (next == swept.points.end()) return;
      if (const auto timing = time_policy(next->policy, operands, swept.bytes, kSecondRound)) {
        *next = measured(next->policy, *timing);
      } else {
        swept.points.erase(next);
      }
    }
  }

  RowProblem problem_of(const NormCall& call) const {
    if (const auto* forward = std::get_if<LayerNorm>(&call)) return row_problem(*forward, stream_);
    return row_problem(std::get<LayerNormBackward>(call), stream_);
  }

  std::int64_t local_bytes_of(const RowPolicy& policy, const NormCall& call) const {
    if (const auto* forward = std::get_if<LayerNorm>(&call)) {
      return local_bytes(policy, *forward, stream_);
    }
    return local_bytes(policy, std::get<LayerNormBackward>(call), stream_);
  }

  std::int64_t workspace_of(const RowPolicy& policy, const NormCall& call) const {
    const auto* backward = std::get_if<LayerNormBackward>(&call);
    return backward == nullptr ? 0 : workspace_bytes(policy, *backward, stream_);
  }

  void run_policy(const RowPolicy& policy, const NormCall& call) const {
    if (const auto* forward = std::get_if<LayerNorm>(&call)) {
      run_with(policy, *forward, stream_);
    } else {
      run_with(policy, std::get<LayerNormBackward>(call), stream_);
    }
  }

  /// Empty when the launch is refused. Throws CudaError when the device has failed.
  std::optional<Timing> time_policy(const RowPolicy& policy, const std::vector<NormSet>& operands,
                                    std::int64_t bytes, const TimerOptions& options) const {
    const auto call = [&](int set) {
      run_policy(policy, operands[static_cast<std::size_t>(set)].front());
    };
    try {
      return time_calls(call, static_cast<int>(operands.size()), bytes, stream_, options);
    } catch (const Error& error) {
      std::fprintf(stderr, "%s: left out %s: %s\n", kProgram, text_of(policy).c_str(),
                   error.what());
      cudaGetLastError();
      LAMINA_CUDA_CHECK(cudaDeviceSynchronize());
      return std::nullopt;
    }
  }

  double measure_copy(std::int64_t bytes, int sets) {
    const auto [found, is_new] = copy_us_.try_emplace(bytes, 0.0);
    if (is_new) {
      const auto [from, to] = pool_.blocks(sets * copy_set_bytes(bytes));
      found->second = time_copy(from, to, bytes, sets, stream_).median_us;
    }
    return found->second;
  }

  CudaStream stream_;
  OperandPool pool_;
  std::map<std::int64_t, double> copy_us_;  // by bytes
};

/// "bf16", "f16", "f32", or "mixed": bf16 with an f32 residual stream.
NormCase dtypes_named(const std::string& name) {
  if (name == "mixed") return {.element = DType::bf16, .stream = DType::f32, .weight = DType::f32};
  for (const DType dtype : {DType::bf16, DType::f16, DType::f32}) {
    if (name_of(dtype) == name) return {.element = dtype, .stream = dtype, .weight = dtype};
  }
  throw Error(cat(kProgram, ": dtype is '", name, "', expected bf16, f16, f32 or mixed"));
}

NormOp swept_op(const std::string& name) {
  const NormOp op = norm_op(name, kProgram);
  for (const NormOp swept : {NormOp::forward, NormOp::add_forward, NormOp::backward,
                             NormOp::add_backward, NormOp::backward_column_sum}) {
    if (op == swept) return op;
  }
  throw Error(cat(kProgram, ": op is ", name,
                  ", expected forward, add_forward, backward, add_backward or"
                  " backward_column_sum (the table has no others)"));
}

std::int64_t parse_rows(const std::string& text) {
  if (text == "large") return 0;
  char* end = nullptr;
  const std::int64_t rows = std::strtoll(text.c_str(), &end, 10);
  if (end == text.c_str() || *end != '\0' || rows < 1) {
    throw Error(cat(kProgram, ": rows is '", text, "', expected a number or 'large'"));
  }
  return rows;
}

std::vector<Task> tasks_of(const cxxopts::ParseResult& options) {
  const auto list = [&](const char* name) { return options[name].as<std::vector<std::string>>(); };
  std::vector<std::int64_t> all_cols(std::begin(kCols), std::end(kCols));
  if (options.count("cols") > 0) all_cols = options["cols"].as<std::vector<std::int64_t>>();
  const std::vector<std::string> all_rows = list("rows");
  const bool has_large = std::find(all_rows.begin(), all_rows.end(), "large") != all_rows.end();
  std::vector<Task> tasks;
  for (const std::string& dtypes : list("dtypes")) {
    for (const std::string& op : list("ops")) {
      for (const std::int64_t cols : all_cols) {
        for (const std::string& text : all_rows) {
          NormCase norm = dtypes_named(dtypes);
          const std::int64_t rows = parse_rows(text);
          if (has_large && rows >= large_rows(cols, norm.element)) continue;
          norm.op = swept_op(op);
          norm.cols = cols;
          norm.rows = rows > 0 ? rows : large_rows(cols, norm.element);
          tasks.push_back({norm, rows > 0 ? 2 * rows - 1 : kAnyRows});  // the next may be twice it
        }
      }
    }
  }
  return tasks;
}

void print_best(const SweptProblem& swept, NormOp op) {
  const MeasuredPolicy& best = swept.points.front();
  std::printf("%-20s %d/%d %8ld x %-6ld %9.2f us %5.0f GB/s %5.1f%% of copy  best of %3zu: %s\n",
              std::string(name_of(op)).c_str(), swept.problem.element_bytes,
              swept.problem.stream_bytes, swept.problem.rows, swept.problem.cols, best.median_us,
              static_cast<double>(swept.bytes) / best.median_us / 1e3,
              100 * swept.copy_us / best.median_us, swept.points.size(),
              text_of(best.policy).c_str());
  std::fflush(stdout);
}

/// Measures until all is done, the time is over or the device has failed; false in the last case.
bool sweep(const std::vector<Task>& tasks, double seconds, CudaStream stream,
           std::vector<SweptProblem>& problems) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  Sweep runner(stream);
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    if (std::chrono::duration<double>(Clock::now() - start).count() > seconds) {
      std::fprintf(stderr, "%s: %g s are over, %zu of %zu problems measured\n", kProgram, seconds,
                   i, tasks.size());
      break;
    }
    try {
      const auto swept = runner.measure(tasks[i]);
      if (!swept) continue;
      problems.push_back(*swept);
      print_best(*swept, tasks[i].norm.op);
    } catch (const Error& error) {
      std::fprintf(stderr, "%s: stopped at %s of %ld x %ld: %s\n", kProgram,
                   std::string(name_of(tasks[i].norm.op)).c_str(), tasks[i].norm.rows,
                   tasks[i].norm.cols, error.what());
      return false;
    }
  }
  return true;
}

cxxopts::Options declare_options() {
  cxxopts::Options options(kProgram,
                           "Measures the policies of the row kernels and writes their table");
  auto add = options.add_options();
  using Names = std::vector<std::string>;
  add("ops", "separated by commas", cxxopts::value<Names>()->default_value(kOps));
  add("dtypes", "bf16, f16, f32, mixed (bf16 with an f32 stream)",
      cxxopts::value<Names>()->default_value(kDtypes));
  add("cols", "numbers of columns (default: 64 to 65536)",
      cxxopts::value<std::vector<std::int64_t>>());
  add("rows", "numbers of rows; large: at least 64 MB",
      cxxopts::value<Names>()->default_value(kRows));
  add("seconds", "begin no problem after this many",
      cxxopts::value<double>()->default_value("1e9"));
  add("from",
      "JSON of earlier sweeps: measure nothing; later files replace the problems of earlier",
      cxxopts::value<Names>());
  add("json", "file for every measurement", cxxopts::value<std::string>());
  add("header", "file for the table in C++", cxxopts::value<std::string>());
  add("commit", "commit that was built, for the JSON",
      cxxopts::value<std::string>()->default_value("unknown"));
  add("help", "this text");
  return options;
}

void write_file(const std::string& path, const std::string& text) {
  std::ofstream file(path);
  file << text;
  if (!file.flush()) throw Error(cat(kProgram, ": cannot write ", path));
}

int sweep_main(int argc, char** argv) {
  cxxopts::Options declared = declare_options();
  const cxxopts::ParseResult options = declared.parse(argc, argv);
  if (options.count("help") > 0) {
    std::cout << declared.help();
    return EXIT_SUCCESS;
  }
  nlohmann::ordered_json runs = nlohmann::ordered_json::array();
  std::vector<SweptProblem> problems;
  bool is_complete = true;
  if (options.count("from") > 0) {
    for (const std::string& path : options["from"].as<std::vector<std::string>>()) {
      std::ifstream file(path);
      if (!file) throw Error(cat(kProgram, ": cannot read ", path));
      const auto document = nlohmann::ordered_json::parse(file);
      add_sweep(document, runs, problems);
    }
  } else {
    const std::vector<Task> tasks = tasks_of(options);
    const auto stream = std::get<CudaStream>(current_stream({DeviceKind::cuda, 0}));
    runs.push_back(run_record(argc, argv, options["commit"].as<std::string>(), stream));
    is_complete = sweep(tasks, options["seconds"].as<double>(), stream, problems);
  }
  std::ostringstream json;
  write_json(json, runs, problems);
  if (options.count("json") > 0) {
    write_file(options["json"].as<std::string>(), json.str());
  }
  if (options.count("header") > 0 && is_complete) {
    nlohmann::ordered_json written_runs = nlohmann::ordered_json::array();
    std::vector<SweptProblem> written;  // rounded as in the JSON: --from gives the same header
    add_sweep(nlohmann::ordered_json::parse(json.str()), written_runs, written);
    std::ostringstream header;
    write_header(header, written_runs, written);
    write_file(options["header"].as<std::string>(), header.str());
  }
  return is_complete ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace
}  // namespace lamina::bench

int main(int argc, char** argv) {
  try {
    return lamina::bench::sweep_main(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return EXIT_FAILURE;
  }
}
