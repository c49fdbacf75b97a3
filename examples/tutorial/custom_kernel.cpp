// SPDX-License-Identifier: MIT
// Tutorial, step 5: an op with kernels of one's own, its gradient, and the check of it.
#include "autograd/gradcheck.h"
#include "autograd/ops.h"
#include "core/expect.h"
#include "core/launch.h"
#include "examples/tutorial/squared_relu.h"

#include <algorithm>
#include <iostream>

using namespace lamina;

void run(const SquaredRelu& args, CpuStream /*stream*/) {
  dispatch_float(args.x.dtype, args.kName, [&]<class T>() {
    for (std::int64_t i = 0; i < args.x.size; ++i) {
      const T positive = std::max(args.x.as<T>()[i], T{0});
      args.y.as<T>()[i] = positive * positive;
    }
  });
}

void run(const SquaredReluBackward& args, CpuStream /*stream*/) {
  if (args.write == GradWrite::skip) return;
  const bool adds = args.write == GradWrite::accumulate;
  dispatch_float(args.x.dtype, args.kName, [&]<class T>() {
    T* const dx = args.dx.as<T>();
    for (std::int64_t i = 0; i < args.x.size; ++i) {
      const T grad = 2 * std::max(args.x.as<T>()[i], T{0}) * args.dy.as<T>()[i];
      dx[i] = adds ? dx[i] + grad : grad;
    }
  });
}

/// max(x, 0)^2, differentiable. x: any shape, f32 or f64 (on CUDA f32).
Var squared_relu(const Var& x) {
  expect_float("squared_relu", "x", x.value());
  const Tensor in = x.value().contiguous();
  const Tensor y = empty_like(in);
  launch(stream_of(in), SquaredRelu{.x = flat(in), .y = flat(y)});
  return record("squared_relu", {x}, {y}, [in](std::span<const Tensor> dy, Grads& grads) {
    const auto [dx, write] = grads.slot(0);
    launch(stream_of(in),
           SquaredReluBackward{.x = flat(in), .dy = flat(dy[0]), .dx = flat(dx), .write = write});
  })[0];
}

int main() {
  const Device device = Device::parse(cuda_device_count() > 0 ? "cuda" : "cpu");
  const Var x = Var::parameter(from_vector<float>({-1, 0, 1, 2}, {4}, device));
  const Var y = squared_relu(x);
  backward(sum(y));
  std::cout << "y    " << y.value().to(kCpu) << "\ngrad " << x.grad().to(kCpu) << "\n";

  Generator generator(7);
  const GradcheckResult result = gradcheck(squared_relu, randn({3, 5}, generator, DType::f64));
  std::cout << "gradcheck: " << (result ? "passed" : result.message) << "\n";
}
