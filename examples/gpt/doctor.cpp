// SPDX-License-Identifier: MIT
#include "examples/gpt/doctor.h"

#include "core/text.h"
#include "examples/gpt/data.h"
#include "examples/gpt/machine.h"
#include "examples/gpt/train.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

namespace lamina::gpt {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Seconds of a call, the least of several rounds: a ceiling is what the device reaches, not what
/// it does on average. On CUDA of many calls in a row, so that waiting for the device is little of
/// it.
double least_seconds(Device device, const std::function<void()>& call) {
  const int calls = device.is_cuda() ? 10 : 1;
  double least = std::numeric_limits<double>::infinity();
  for (int round = 0; round < 4; ++round) {  // the first loads kernels and touches memory
    synchronize(device);
    const Clock::time_point start = Clock::now();
    for (int i = 0; i < calls; ++i)
      call();
    synchronize(device);
    least = std::min(least, seconds_since(start) / calls);
  }
  return least;
}

/// "copy 4,210 GB/s": bytes read and written, of blocks larger than any cache.
std::string copy_text(Device device) {
  const std::int64_t bytes = std::int64_t{device.is_cuda() ? 512 : 128} << 20;
  const Tensor from = zeros({bytes}, DType::u8, device), to = empty_like(from);
  const double seconds = least_seconds(device, [&] { to.copy_from(from); });
  return cat("copy ", fixed(2e-9 * static_cast<double>(bytes) / seconds, 1), " GB/s");
}

/// "bf16 matmul 700.0 TFLOP/s": large square matrices of random numbers (zeros run faster).
std::string matmul_text(Device device, DType dtype) {
  const NoGrad no_grad;
  const std::int64_t n = device.is_cuda() ? 4096 : 1024;
  const Var a = randn({n, n}, default_generator(), dtype, device);
  const double seconds = least_seconds(device, [&] { linear(a, a); });
  const double flops = 2.0 * static_cast<double>(n * n * n);
  return cat(dtype, " matmul ", fixed(1e-12 * flops / seconds, device.is_cuda() ? 1 : 3),
             " TFLOP/s");
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
    seconds = seconds_since(start);
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
    std::string ceilings = copy_text(device);
    for (const DType dtype : dtypes)
      ceilings += cat(", ", matmul_text(device, dtype));
    live.print(cat("ceilings  ", ceilings));
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
