// SPDX-License-Identifier: MIT
// Learns y = sin(3x) with a small network: defining a layer, training it, saving it.
#include "nn/nn.h"

#include <cmath>
#include <cstdio>
#include <vector>

using namespace lamina;

struct Net : Layer<Net> {  // parameters register themselves by name: "in.weight", "in.bias", ...
  nn::Linear& in = add<nn::Linear>("in", 1, 64);
  nn::LayerNorm& norm = add<nn::LayerNorm>("norm", 64);
  nn::Mlp& mlp = add<nn::Mlp>("mlp", 64);
  nn::Linear& out = add<nn::Linear>("out", 64, 1);

  Var forward(const Var& x) {
    const Var h = in(x);
    return out(h + mlp(norm(h)));
  }
};

int main() {
  const Device device = Device::parse(cuda_device_count() > 0 ? "cuda" : "cpu");
  seed(1337);
  Net net;
  net.to(device, DType::f32);
  nn::AdamW optimizer(net.parameters(), {.schedule = nn::schedule::cosine(3e-3F, 1e-4F, 20, 400)});

  float last = 0.0F;
  for (int step = 0; step < 400; ++step) {
    const Tensor x = uniform({256, 1}, -1.0, 1.0, default_generator());
    std::vector<float> y = x.to_vector<float>();
    for (float& value : y)
      value = std::sin(3.0F * value);

    const Var error = net(Var(x.to(device))) + scale(from_vector(y, {256, 1}, device), -1.0);
    const Var loss = mean(error * error);
    backward(loss);
    optimizer.step();
    optimizer.zero_grad();
    if (step % 100 == 99)
      std::printf("step %3d  loss %.5f\n", step + 1, last = loss.value().item<float>());
  }
  nn::save_parameters(net, "net.safetensors");
  return last < 0.01F ? 0 : 1;
}
