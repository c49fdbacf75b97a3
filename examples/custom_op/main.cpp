// SPDX-License-Identifier: MIT
// Checks the gradient of the user's op and trains the user's layer for a few steps, on the CPU and,
// where there is one, on a GPU. Exit status 0 when all of it works.
#include "autograd/gradcheck.h"
#include "examples/custom_op/scaled_tanh.h"

#include <cstdio>
#include <exception>

namespace {

using namespace lamina;  // NOLINT(google-build-using-namespace): a short program

bool gradient_is_right() {
  Generator generator(7);
  const Tensor x = randn({3, 5}, generator, DType::f64);
  const GradcheckResult result =
      gradcheck([](const Var& v) { return custom::scaled_tanh(v, 2.0F); }, x);
  std::printf("gradcheck in f64: worst relative error %.1e\n", result.worst);
  if (!result) std::printf("%s\n", result.message.c_str());
  return result.passed;
}

/// Teaches the layer what another one of its kind does. Returns whether the error became small.
bool layer_learns(Device device) {
  constexpr std::int64_t kRows = 256, kWidth = 16;
  constexpr int kSteps = 300;
  seed(1);
  custom::TanhGate teacher(kWidth), student(kWidth);
  teacher.to(device, DType::f32);
  student.to(device, DType::f32);
  nn::AdamW optimizer(student.parameters(),
                      {.schedule = nn::schedule::linear(1e-2F, 1e-4F, 10, kSteps)});
  Generator generator(3);
  float first = 0.0F, last = 0.0F;
  for (int step = 0; step < kSteps; ++step) {
    const Tensor x = randn({kRows, kWidth}, generator, DType::f32, device);
    const Tensor wanted = teacher(Var(x)).value();
    const Var error = student(Var(x)) + scale(Var(wanted), -1.0);
    const Var loss = mean(error * error);
    backward(loss);
    optimizer.step();
    optimizer.zero_grad();
    if (step == 0) first = loss.value().item<float>();
    if (step == kSteps - 1) last = loss.value().item<float>();
  }
  const std::string name = device.is_cuda() ? "cuda" : "cpu";
  std::printf("%s: mean squared error %.4f -> %.6f\n", name.c_str(), static_cast<double>(first),
              static_cast<double>(last));
  return last < 0.01F * first;
}

}  // namespace

int main() {
  try {
    bool is_good = gradient_is_right() && layer_learns(kCpu);
    if (cuda_device_count() > 0) is_good = layer_learns({DeviceKind::cuda, 0}) && is_good;
    return is_good ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "custom_op: error: %s\n", error.what());
    return 1;
  }
}
