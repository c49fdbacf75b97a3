// SPDX-License-Identifier: MIT
// Parameter vectors of the norm layers in the type that a kernel computes in.
#pragma once

#include "core/dtype.h"
#include "core/view.h"

#include <cstdint>
#include <string_view>
#include <vector>

namespace lamina::kernels::cpu {

/// [cols] values of `vector`, or `otherwise` when it is empty. One small copy per call buys inner
/// loops without a case for every dtype and for missing parameters.
template <class T>
std::vector<T> parameters(const Flat& vector, std::int64_t cols, T otherwise, std::string_view op) {
  std::vector<T> values(static_cast<std::size_t>(cols), otherwise);
  if (vector) {
    dispatch_float(vector.dtype, op, [&]<class From>() {
      const From* const from = vector.as<From>();
      for (std::size_t c = 0; c < values.size(); ++c)
        values[c] = static_cast<T>(from[c]);
    });
  }
  return values;
}

}  // namespace lamina::kernels::cpu
