// SPDX-License-Identifier: MIT
// Trains the example's GPT from given weights on the built-in standard corpus, for loss_curve.py,
// which trains PyTorch's GPT-2 on the same batches.
// Usage: loss_curve INPUT.safetensors OUTPUT.safetensors DEVICE DTYPE LAYERS HEADS RESIDUAL STEPS
//        BATCH CONTEXT LR
// Input: the parameters by Lamina's names. Output, one entry per step: "tokens" [steps, 2, batch,
// context] i32 (inputs, then targets), "loss" and "lr" [steps] f32.
#include "examples/gpt/data.h"
#include "tests/parity/parity_model.h"

#include <cstdio>
#include <exception>

namespace {

using namespace lamina;

void run(char** argv) {
  const Device device = Device::parse(argv[3]);
  const auto model = parity::make_model(parity::load(argv[1]), std::stoi(argv[5]),
                                        std::stoi(argv[6]), argv[7] == std::string("f32"));
  const std::int64_t steps = std::stoll(argv[8]), batch = std::stoll(argv[9]),
                     context = std::stoll(argv[10]);
  model->to(device, parity::dtype_named(argv[4]));
  const float lr = std::stof(argv[11]);
  nn::AdamW optimizer(model->parameters(),
                      {.schedule = nn::schedule::cosine(lr, lr / 10, steps / 10, steps),
                       .beta2 = 0.95F,
                       .weight_decay = 0.1F,
                       .max_norm = 1.0F});
  const auto source = gpt::corpus_source("standard");
  const gpt::TokenLoader loader(*source, batch, context, kCpu);

  const Tensor tokens = empty({steps, 2, batch, context}, DType::i32);
  const Tensor losses = empty({steps}, DType::f32), rates = empty({steps}, DType::f32);
  for (std::int64_t step = 0; step < steps; ++step) {
    const Tensor now = tokens.slice(0, step, step + 1).reshape({2, batch, context});
    loader.write(data::Split::train, static_cast<std::uint64_t>(step),
                 {now.data<std::int32_t>(), static_cast<std::size_t>(now.elements())});
    const auto [inputs, targets] = gpt::batch_of(now.to(device));
    const Var loss = model->loss(inputs, targets);
    backward(loss);
    optimizer.step();
    optimizer.zero_grad();
    losses.data<float>()[step] = static_cast<float>(loss.value().item<double>());
    rates.data<float>()[step] = optimizer.state().lr;
  }
  nn::save_tensors({{"tokens", tokens}, {"loss", losses}, {"lr", rates}}, argv[2]);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 12) {
    std::fprintf(
        stderr,
        "usage: %s INPUT OUTPUT DEVICE f32|bf16 LAYERS HEADS same|f32 STEPS BATCH CONTEXT LR\n",
        argv[0]);
    return 2;
  }
  try {
    run(argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "loss_curve: %s\n", error.what());
    return 1;
  }
  return 0;
}
