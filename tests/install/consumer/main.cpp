// SPDX-License-Identifier: MIT
// A small network learns y = x^2. Fails unless the loss falls to a tenth.
#include "nn/nn.h"

#include <cstdio>

using namespace lamina;

struct Net : Layer<Net> {
  nn::Linear& in = add<nn::Linear>("in", 1, 32);
  nn::LayerNorm& norm = add<nn::LayerNorm>("norm", 32);
  nn::Linear& out = add<nn::Linear>("out", 32, 1);

  Var forward(const Var& x) { return out(gelu(norm(in(x)))); }
};

int main() {
  const Device device = Device::parse(cuda_device_count() > 0 ? "cuda" : "cpu");
  seed(1);
  Net net;
  net.to(device, DType::f32);
  nn::AdamW optimizer(net.parameters(), {.schedule = nn::schedule::cosine(1e-2F, 1e-3F, 5, 100)});

  const Var x = uniform({64, 1}, -1.0, 1.0, default_generator()).to(device);
  float first = 0.0F, last = 0.0F;
  for (int step = 0; step < 100; ++step) {
    const Var error = net(x) + scale(x * x, -1.0);
    const Var loss = mean(error * error);
    backward(loss);
    optimizer.step();
    optimizer.zero_grad();
    last = loss.value().item<float>();
    if (step == 0) first = last;
  }
  std::printf("loss %.5f, then %.5f\n", first, last);
  return last < 0.1F * first ? 0 : 1;
}
