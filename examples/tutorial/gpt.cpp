// SPDX-License-Identifier: MIT
// Tutorial, step 4: a GPT that learns a rhyme by heart, character by character.
#include "nn/nn.h"

#include <algorithm>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

using namespace lamina;

struct Block : Layer<Block> {
  Block(std::int64_t width, int heads) : width(width), heads(heads) {}

  const std::int64_t width;
  const int heads;
  nn::LayerNorm& norm_1 = add<nn::LayerNorm>("norm_1", width);
  nn::CausalSelfAttention& attention = add<nn::CausalSelfAttention>("attention", width, heads);
  nn::LayerNorm& norm_2 = add<nn::LayerNorm>("norm_2", width);
  nn::Mlp& mlp = add<nn::Mlp>("mlp", width);

  /// x: [batch, time, width]; so is the result.
  Var forward(const Var& x) {
    const Var h = x + attention(norm_1(x));
    return h + mlp(norm_2(h));
  }
};

struct Gpt : Layer<Gpt> {
  Gpt(std::int64_t vocab, std::int64_t context, std::int64_t width)
      : vocab(vocab), context(context), width(width) {}

  const std::int64_t vocab, context, width;
  nn::Embedding& tokens = add<nn::Embedding>("tokens", vocab, width, init::normal(0.02));
  nn::Embedding& positions = add<nn::Embedding>("positions", context, width, init::normal(0.02));
  List<Block>& blocks = add<List<Block>>("blocks", 2, width, 4);  // two, of four heads each
  nn::LayerNorm& norm = add<nn::LayerNorm>("norm", width);

  /// ids: [batch, time], i32, time <= context. Result: logits [batch, time, vocab].
  Var forward(const Tensor& ids) {
    Var x = tokens(ids) + slice(positions.weight, 0, 0, ids.dim(-1));
    for (Block* block : blocks)
      x = (*block)(x);
    return linear(norm(x), tokens.weight);  // the head has the weight of the embedding
  }
};

const std::string kText =
    "Humpty Dumpty sat on a wall,\nHumpty Dumpty had a great fall.\n"
    "All the king's horses and all the king's men\ncouldn't put Humpty together again.\n";

int main() {
  std::string letters = kText;  // each character once: its place is its token
  std::sort(letters.begin(), letters.end());
  letters.erase(std::unique(letters.begin(), letters.end()), letters.end());
  const auto token = [&](char c) { return static_cast<std::int32_t>(letters.find(c)); };

  const Device device = Device::parse(cuda_device_count() > 0 ? "cuda" : "cpu");
  constexpr std::int64_t kBatch = 8, kContext = 32;
  seed(1337);
  Gpt gpt(static_cast<std::int64_t>(letters.size()), kContext, 64);
  gpt.to(device, DType::f32);
  nn::AdamW optimizer(gpt.parameters(), {.schedule = nn::schedule::cosine(3e-3F, 3e-4F, 10, 200)});
  std::printf("%zu characters, %lld parameters\n", letters.size(),
              static_cast<long long>(gpt.parameter_count()));

  std::mt19937 random(1);
  for (int step = 1; step <= 200; ++step) {
    std::vector<std::int32_t> ids, targets;  // windows of the text, and what follows each place
    for (int i = 0; i < kBatch; ++i) {
      const std::size_t begin = random() % (kText.size() - kContext);
      for (std::size_t at = begin; at < begin + kContext; ++at) {
        ids.push_back(token(kText[at]));
        targets.push_back(token(kText[at + 1]));
      }
    }
    const Shape shape = {kBatch, kContext};
    const Var loss =
        cross_entropy(gpt(from_vector(ids, shape, device)), from_vector(targets, shape, device));
    backward(loss);
    optimizer.step();
    optimizer.zero_grad();
    if (step == 1 || step % 100 == 0)
      std::printf("step %3d  loss %.1f\n", step, loss.value().item<float>());
  }

  const NoGrad off;
  std::string text = "All ";
  while (text.back() != '.' && text.size() < 100) {  // the likeliest character, again and again
    const std::string seen =
        text.substr(text.size() - std::min<std::size_t>(text.size(), kContext));
    std::vector<std::int32_t> ids;
    for (const char c : seen)
      ids.push_back(token(c));
    const Tensor input = from_vector(ids, {1, static_cast<std::int64_t>(ids.size())}, device);
    const std::vector<float> logits = gpt(input).value().to_vector<float>();
    const auto last = logits.end() - static_cast<std::ptrdiff_t>(letters.size());
    text += letters[static_cast<std::size_t>(std::max_element(last, logits.end()) - last)];
  }
  std::printf("%s\n", text.c_str());
}
