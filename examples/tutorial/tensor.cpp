// SPDX-License-Identifier: MIT
// Tutorial, step 1: making tensors, views, conversions, and what a mistake says.
#include "core/tensor.h"

#include <iostream>

using namespace lamina;

int main() {
  const Tensor a = from_vector<float>({1, 2, 3, 4, 5, 6}, {2, 3});
  std::cout << "a " << a << "\n";

  const Tensor column = a.slice(1, 0, 1);  // positions [0, 1) of dimension 1: a view
  column.fill(9);                          // so this writes into a
  std::cout << "a, after its first column was filled: " << a << "\n";
  std::cout << "a, transposed: " << a.transpose(0, 1) << "\n";

  const Tensor copy = a.to(DType::f64).reshape({6});  // another dtype is a copy
  std::cout << "copy " << copy << "\n";

  try {
    a.reshape({4, 2});
  } catch (const ShapeError& error) {
    std::cout << error.what() << "\n";
  }
}
