// SPDX-License-Identifier: MIT
#include "examples/gpt/doctor.h"

#include "core/text.h"
#include "examples/gpt/data.h"
#include "examples/gpt/train.h"

#include <chrono>
#include <cmath>
#include <fstream>
#include <omp.h>
#include <string>
#include <string_view>
#include <vector>

extern "C" char* openblas_get_config() __attribute__((weak));

namespace lamina::gpt {

namespace {

/// The value of the first line of a /proc file that starts with `key`, or "unknown".
std::string proc_value(const char* path, std::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    const std::size_t start = line.find_first_not_of(": \t", key.size());
    return start == std::string::npos ? "unknown" : line.substr(start);
  }
  return "unknown";
}

std::string memory_value(std::string_view key) {
  const std::string text = proc_value("/proc/meminfo", key);  // "16384256 kB"
  if (text == "unknown") return text;
  return bytes_text(static_cast<std::size_t>(std::stoull(text)) * 1024);
}

std::string compiler() {
#if defined(__clang__)
  return cat("clang ", __clang_major__, ".", __clang_minor__);
#else
  return cat("g++ ", __GNUC__, ".", __GNUC_MINOR__);
#endif
}

/// Trains a small model for about a second and says how that went. Returns whether it learned.
bool check_training(Device device, DType dtype, LiveLine& live) {
  using Clock = std::chrono::steady_clock;
  seed(1337);
  Gpt model({.layers = 2,
             .heads = 4,
             .width = 64,
             .context = 64,
             .vocab = data::Vocabulary::builtin().size()});
  model.to(device, dtype);
  nn::AdamW optimizer(model.parameters(), {.schedule = nn::schedule::constant(2e-3F, 5)});
  const auto source = corpus_source("easy");
  const TokenLoader loader(*source, 16, 64, device);
  double first = 0.0, last = 0.0, seconds = 0.0;
  std::uint64_t steps = 0;
  const Clock::time_point start = Clock::now();
  while (seconds < 1.0 || steps < 10) {
    const auto [inputs, targets] = loader.batch(data::Split::train, steps++);
    const Var loss = model.loss(inputs, targets);
    backward(loss);
    optimizer.step();
    optimizer.zero_grad();
    last = loss.value().item<double>();
    if (steps == 1) first = last;
    seconds = std::chrono::duration<double>(Clock::now() - start).count();
  }
  const bool is_good = std::isfinite(last) && last < 0.9 * first;
  const double rate =
      static_cast<double>(steps) * static_cast<double>(loader.tokens_per_batch()) / seconds;
  live.print(cat("train     ", device, " ", dtype, ": loss ", fixed(first, 3), " -> ",
                 fixed(last, 3), " in ", steps, " steps, ", count_text(rate),
                 " tok/s: ", is_good ? "good" : "FAILED, expected a loss below 90% of the first"));
  return is_good;
}

}  // namespace

int doctor(const Options& options, Console& console) {
  set_threads(options.threads);
  LiveLine live(console);
  const DeviceInfo& host = device_info(kCpu);
  live.print(cat("lamina    ", LAMINA_VERSION, ", ", LAMINA_BUILD_TYPE, ", ", compiler(),
                 ", tuned for this CPU: ", LAMINA_NATIVE_BUILD ? "yes" : "no",
                 ", CUDA backend: ", LAMINA_WITH_CUDA ? "yes" : "no"));
  live.print(cat("cpu       ", proc_value("/proc/cpuinfo", "model name"), ", ",
                 host.multiprocessors, " cores, OpenMP ", omp_get_max_threads(), " threads"));
  live.print(cat("memory    ", bytes_text(host.total_memory), ", available ",
                 memory_value("MemAvailable")));
  live.print(
      cat("blas      ", openblas_get_config != nullptr ? openblas_get_config() : LAMINA_BLAS));
  const bool is_all = options.device == "auto";
  const Device chosen = is_all ? kCpu : Device::parse(options.device);
  bool is_good = true;
  if (is_all || chosen == kCpu) is_good = check_training(kCpu, DType::f32, live);
  if (cuda_device_count() == 0) {
    live.print(cat("cuda      ", LAMINA_WITH_CUDA ? "no device or no driver"
                                                  : "not in this build (-DLAMINA_CUDA=ON)"));
  }
  for (int i = 0; i < cuda_device_count(); ++i) {
    const Device device{DeviceKind::cuda, i};
    const DeviceInfo& info = device_info(device);
    live.print(cat(device, "    ", info.name, ", sm_", info.compute_capability, ", ",
                   info.multiprocessors, " multiprocessors, ", bytes_text(info.total_memory)));
    if (!is_all && chosen != device) continue;
    for (const DType dtype : {DType::f32, DType::bf16}) {
      is_good = check_training(device, dtype, live) && is_good;
    }
  }
  return is_good ? 0 : 1;
}

}  // namespace lamina::gpt
