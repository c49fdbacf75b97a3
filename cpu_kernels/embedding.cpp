// SPDX-License-Identifier: MIT
#include "core/kernels/embedding.h"

#include "core/error.h"
#include "core/text.h"
#include "cpu_kernels/parallel.h"

#include <algorithm>

namespace lamina::kernels {

void run(const Embedding& args, CpuStream) {
  const auto* const tokens = args.tokens.as<std::int32_t>();
  const std::int64_t vocabulary = args.table.rows;
  for (std::int64_t i = 0; i < args.tokens.size; ++i) {
    if (tokens[i] < 0 || tokens[i] >= vocabulary) {
      throw Error(cat("embedding: token ", tokens[i], " at position ", i,
                      ", expected 0 <= token < ", vocabulary, " (the rows of the table)"));
    }
  }
  dispatch_float(args.y.dtype, args.kName, [&]<class T>() {
    cpu::parallel_rows(args.tokens.size, args.y.cols, [&](std::int64_t i) {
      std::copy_n(cpu::row_of<T>(args.table, tokens[i]), args.y.cols, cpu::row_of<T>(args.y, i));
    });
  });
}

std::int64_t workspace_bytes(const EmbeddingBackward&, CpuStream) {
  return 0;
}

void run(const EmbeddingBackward& args, CpuStream) {
  if (args.write == GradWrite::skip) return;
  const auto* const tokens = args.tokens.as<std::int32_t>();
  const std::int64_t vocabulary = args.dtable.rows, cols = args.dtable.cols;
  // A slice of columns belongs to one thread, which meets the tokens in order. 32 columns are whole
  // cache lines, so that threads do not share one.
  constexpr std::int64_t kSlice = 32;
  dispatch_float(args.dy.dtype, args.kName, [&]<class T>() {
    dispatch_float(args.dtable.dtype, args.kName, [&]<class Out>() {
      cpu::parallel_for(cpu::divide_up(cols, kSlice), [&](std::int64_t slice) {
        const std::int64_t begin = slice * kSlice, count = std::min(kSlice, cols - begin);
        if (args.write == GradWrite::overwrite) {
          for (std::int64_t v = 0; v < vocabulary; ++v) {
            std::fill_n(cpu::row_of<Out>(args.dtable, v) + begin, count, Out{0});
          }
        }
        for (std::int64_t i = 0; i < args.tokens.size; ++i) {
          if (tokens[i] < 0 || tokens[i] >= vocabulary) continue;
          const T* const from = cpu::row_of<T>(args.dy, i) + begin;
          Out* const to = cpu::row_of<Out>(args.dtable, tokens[i]) + begin;
#pragma omp simd
          for (std::int64_t c = 0; c < count; ++c)
            to[c] += static_cast<Out>(from[c]);
        }
      });
    });
  });
}

}  // namespace lamina::kernels
