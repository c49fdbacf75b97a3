// SPDX-License-Identifier: MIT
// Tutorial, step 3: a layer of one's own, trained and saved.
#include "nn/nn.h"

#include <cstdio>
#include <iostream>
#include <vector>

using namespace lamina;

struct Net : Layer<Net> {
  explicit Net(std::int64_t width) : width(width) {}

  const std::int64_t width;
  nn::Linear& in = add<nn::Linear>("in", 1, width);
  Var& gain = param("gain", {width}, init::ones);
  nn::Linear& out = add<nn::Linear>("out", width, 1);

  /// x: [..., 1]; so is the result.
  Var forward(const Var& x) { return out(gelu(in(x)) * gain); }
};

int main() {
  seed(1337);
  Net net(32);
  for (const NamedParameter& parameter : net.named_parameters())
    std::cout << parameter.name << " " << parameter.var->shape() << "\n";

  // What the net is to learn: y = 3 - x^2.
  const Tensor x = uniform({256, 1}, -1.0, 1.0, default_generator());
  std::vector<float> y = x.to_vector<float>();
  for (float& value : y)
    value = 3.0F - value * value;
  const Tensor wanted = from_vector(y, {256, 1});

  nn::AdamW optimizer(net.parameters(), {.schedule = nn::schedule::cosine(1e-2F, 1e-4F, 10, 300)});
  for (int step = 0; step < 300; ++step) {
    const Var error = net(x) + scale(wanted, -1.0);
    backward(mean(error * error));
    optimizer.step();
    optimizer.zero_grad();
  }
  nn::save_parameters(net, "parabola.safetensors");

  Net loaded(32);
  nn::load_parameters(loaded, "parabola.safetensors");
  const NoGrad off;
  for (const float at : {-0.9F, 0.0F, 0.45F})
    std::printf("x %5.2f  y %.1f\n", at,
                loaded(from_vector<float>({at}, {1, 1})).value().item<float>());
}
