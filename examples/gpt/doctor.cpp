// SPDX-License-Identifier: MIT
#include "examples/gpt/doctor.h"

#include "core/ceilings.h"
#include "core/text.h"
#include "examples/gpt/data.h"
#include "examples/gpt/machine.h"
#include "examples/gpt/model.h"
#include "examples/gpt/train.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <string>
#include <vector>

namespace lamina::gpt {

namespace {

using Clock = std::chrono::steady_clock;

/// "copy 8.1 GB/s, f32 matmul 0.105 TFLOP/s".
std::string ceilings_text(Device device, const std::vector<DType>& dtypes) {
  std::string text;
  for (const DType dtype : dtypes) {
    const Ceilings ceilings = measure_ceilings(device, dtype);
    if (text.empty()) text = cat("copy ", fixed(ceilings.copy_gb_s, 1), " GB/s");
    text += cat(", ", dtype, " matmul ", fixed(ceilings.matmul_tflop_s, device.is_cuda() ? 1 : 3),
                " TFLOP/s");
  }
  return text;
}

/// Trains a small model for about a second and says how that went. Returns whether it learned.
bool check_training(Device device, DType dtype, LiveLine& live) {
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
  const auto print = [&](const Facts& facts) {
    for (const auto& [name, text] : facts)
      live.print(cat(
          name, std::string(std::max<std::size_t>(10, name.size() + 1) - name.size(), ' '), text));
  };
  print(host_facts());
  const bool is_all = options.device == "auto";
  const Device chosen = is_all ? kCpu : Device::parse(options.device);
  bool is_good = true;
  const auto check = [&](Device device, const std::vector<DType>& dtypes) {
    live.print(cat("ceilings  ", ceilings_text(device, dtypes)));
    for (const DType dtype : dtypes)
      is_good = check_training(device, dtype, live) && is_good;
  };
  if (is_all || chosen == kCpu) check(kCpu, {DType::f32});
  for (int i = 0; i < cuda_device_count(); ++i) {
    const Device device{DeviceKind::cuda, i};
    print(gpu_facts(device));
    if (is_all || chosen == device) check(device, {DType::f32, DType::bf16});
  }
  for (const std::string& what : missing_things())
    live.print(cat("missing   ", what));
  return is_good ? 0 : 1;
}

}  // namespace lamina::gpt
