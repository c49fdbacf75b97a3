// SPDX-License-Identifier: MIT
#include "core/kernels/reduce.h"

#include "cpu_kernels/sums.h"

#include <algorithm>

namespace lamina::kernels {
namespace {

constexpr std::int64_t kColumnBlock = 256;  // columns summed at a time, in registers and L1

/// The segments that Sum adds up one by one.
std::int64_t segments(const Rows& x) {
  return x.rows * cpu::divide_up(x.cols, cpu::kChunkWork);
}

/// How the terms of each element of y are split among threads: not at all when y itself is large.
cpu::Chunks term_chunks(const ColumnSum& args) {
  const std::int64_t terms = args.y.rows > 0 ? args.x.rows / args.y.rows : 0;
  if (args.y.elements() >= cpu::kChunkWork) return {.items = terms, .size = terms, .count = 1};
  return cpu::chunks_of(terms, args.y.elements());
}

/// sums[c] = sum over k in [begin, end) of a[k * y.rows + row, first + c].
template <class T>
void sum_terms(const ColumnSum& args, std::int64_t row, std::int64_t first, std::int64_t count,
               std::int64_t begin, std::int64_t end, T* sums) {
  std::fill_n(sums, count, T{0});
  for (std::int64_t k = begin; k < end; ++k) {
    const T* const x = cpu::row_of<T>(args.x, k * args.y.rows + row) + first;
    if (args.factor) {
      const T* const factor = cpu::row_of<T>(args.factor, k * args.y.rows + row) + first;
#pragma omp simd
      for (std::int64_t c = 0; c < count; ++c)
        sums[c] += x[c] * factor[c];
    } else {
#pragma omp simd
      for (std::int64_t c = 0; c < count; ++c)
        sums[c] += x[c];
    }
  }
}

template <class T, class Out>
void column_sum(const ColumnSum& args) {
  const cpu::Chunks chunks = term_chunks(args);
  const std::int64_t rows = args.y.rows, cols = args.y.cols;
  const std::int64_t blocks = cpu::divide_up(cols, kColumnBlock);
  T* const partials = args.workspace.as<T>();  // [chunks.count, rows, cols] when more than one
  const std::int64_t terms_size = std::max<std::int64_t>(1, chunks.size);
  const std::int64_t count = std::max<std::int64_t>(1, chunks.count);
  cpu::parallel_rows(
      count * rows * blocks, terms_size * std::min(cols, kColumnBlock), [&](std::int64_t item) {
        const std::int64_t chunk = item / (rows * blocks), row = item / blocks % rows;
        const std::int64_t first = item % blocks * kColumnBlock;
        const std::int64_t width = std::min(kColumnBlock, cols - first);
        T sums[kColumnBlock];
        sum_terms(args, row, first, width, chunks.begin(chunk), chunks.end(chunk), sums);
        if (count > 1) {
          std::copy_n(sums, width, partials + (chunk * rows + row) * cols + first);
        } else {
          Out* const y = cpu::row_of<Out>(args.y, row) + first;
          cpu::write_partials(sums, 1, 0, width, y, args.write);
        }
      });
  if (count <= 1) return;
  cpu::parallel_rows(rows, count * cols, [&](std::int64_t row) {
    cpu::write_partials(partials + row * cols, count, rows * cols, cols,
                        cpu::row_of<Out>(args.y, row), args.write);
  });
}

}  // namespace

std::int64_t workspace_bytes(const Sum& args, CpuStream) {
  Rows x = args.x;
  cpu::flatten(x);
  return segments(x) * static_cast<std::int64_t>(size_of(x.dtype));
}

void run(const Sum& args, CpuStream) {
  Rows x = args.x;
  cpu::flatten(x);
  dispatch_float(x.dtype, args.kName, [&]<class T>() {
    const std::int64_t pieces = cpu::divide_up(x.cols, cpu::kChunkWork);
    T* const partials = args.workspace.as<T>();  // [segments]
    cpu::parallel_segments(
        x.rows, x.cols, [&](std::int64_t row, std::int64_t begin, std::int64_t end) {
          const T* const from = cpu::row_of<T>(x, row) + begin;
          partials[row * pieces + begin / cpu::kChunkWork] =
              cpu::lane_sum<T>(end - begin, [&](std::int64_t i) { return from[i]; });
        });
    const T sum = cpu::lane_sum<T>(segments(x), [&](std::int64_t i) { return partials[i]; });
    dispatch_float(args.y.dtype, args.kName, [&]<class Out>() {
      *args.y.as<Out>() = static_cast<Out>(args.factor * static_cast<double>(sum));
    });
  });
}

std::int64_t workspace_bytes(const ColumnSum& args, CpuStream) {
  const std::int64_t chunks = term_chunks(args).count;
  return chunks > 1 ? chunks * args.y.elements() * static_cast<std::int64_t>(size_of(args.x.dtype))
                    : 0;
}

void run(const ColumnSum& args, CpuStream) {
  if (args.write == GradWrite::skip || args.y.elements() == 0) return;
  dispatch_float(args.x.dtype, args.kName, [&]<class T>() {
    dispatch_float(args.y.dtype, args.kName, [&]<class Out>() { column_sum<T, Out>(args); });
  });
}

}  // namespace lamina::kernels
