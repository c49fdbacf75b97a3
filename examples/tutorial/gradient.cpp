// SPDX-License-Identifier: MIT
// Tutorial, step 2: a loss, its gradient, and what adds up.
#include "autograd/ops.h"

#include <iostream>

using namespace lamina;

int main() {
  const Var w = Var::parameter(from_vector<float>({1, 2, 3}, {3}));  // has a gradient
  const Tensor x = from_vector<float>({10, 20, 30}, {3});            // has none

  const auto loss = [&] { return sum(w * w) + sum(w * x); };
  std::cout << "loss " << loss().value().item<float>() << "\n";

  backward(loss());  // d loss / d w = 2 w + x
  std::cout << "grad " << w.grad() << "\n";

  backward(loss());  // gradients are added to those that are there
  std::cout << "grad, twice: " << w.grad() << "\n";

  w.zero_grad();
  const NoGrad off;  // from here on nothing is recorded
  std::cout << "recorded: " << std::boolalpha << loss().requires_grad() << "\n";
}
