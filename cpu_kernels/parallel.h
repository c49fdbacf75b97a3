// SPDX-License-Identifier: MIT
// How CPU kernels use cores: work is cut into chunks by the problem's size alone, never by the
// number of threads, so that results are bit-identical for any number of them. Partial sums are
// kept per chunk and combined in chunk order (cpu_kernels/sums.h).
#pragma once

#include "core/view.h"

#include <algorithm>
#include <cstdint>

namespace lamina::kernels::cpu {

inline constexpr std::int64_t kChunkWork = 16384;  // elements: some 10 us, above OpenMP's overhead
inline constexpr std::int64_t kMaxChunks = 64;     // bounds the workspace of partial sums

constexpr std::int64_t divide_up(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

/// Equal runs of items; the last may be shorter.
struct Chunks {
  std::int64_t items = 0;
  std::int64_t size = 1;   // items per chunk
  std::int64_t count = 0;  // chunks

  std::int64_t begin(std::int64_t chunk) const { return chunk * size; }

  std::int64_t end(std::int64_t chunk) const { return std::min(items, (chunk + 1) * size); }
};

/// Cuts `items`, each of `work` elements, into at most kMaxChunks chunks of at least kChunkWork.
constexpr Chunks chunks_of(std::int64_t items, std::int64_t work) {
  if (items <= 0) return {};
  const std::int64_t grain =
      std::max<std::int64_t>(1, kChunkWork / std::max<std::int64_t>(1, work));
  const std::int64_t wanted = std::min(kMaxChunks, divide_up(items, grain));
  const std::int64_t size = divide_up(items, wanted);
  return {.items = items, .size = size, .count = divide_up(items, size)};
}

/// Calls body(i) for every i in [0, count), on all cores. The body must not throw.
template <class Body>
void parallel_for(std::int64_t count, const Body& body) {
  if (count <= 1) {
    for (std::int64_t i = 0; i < count; ++i)
      body(i);
    return;
  }
#pragma omp parallel for schedule(dynamic, 1)
  for (std::int64_t i = 0; i < count; ++i)
    body(i);
}

/// Calls body(row) for every row of [0, rows), each of `work` elements, on all cores.
template <class Body>
void parallel_rows(std::int64_t rows, std::int64_t work, const Body& body) {
  const Chunks chunks = chunks_of(rows, work);
  parallel_for(chunks.count, [&](std::int64_t chunk) {
    for (std::int64_t row = chunks.begin(chunk); row < chunks.end(chunk); ++row)
      body(row);
  });
}

/// Calls body(row, begin, end) for column ranges that cover a [rows, cols] matrix; also cuts rows,
/// so that one long row uses all cores.
template <class Body>
void parallel_segments(std::int64_t rows, std::int64_t cols, const Body& body) {
  const std::int64_t pieces = divide_up(cols, kChunkWork);  // per row
  parallel_rows(rows * pieces, std::min(cols, kChunkWork), [&](std::int64_t item) {
    const std::int64_t begin = item % pieces * kChunkWork;
    body(item / pieces, begin, std::min(cols, begin + kChunkWork));
  });
}

/// Row `row` of a view; null for an empty view.
template <class T>
T* row_of(const Rows& view, std::int64_t row) {
  return view ? view.as<T>() + row * view.stride : nullptr;
}

/// True when the rows follow each other without a gap.
inline bool is_dense(const Rows& view) {
  return view.stride == view.cols || view.rows <= 1;
}

/// The view as one row when that is possible for all of `views`, which have the same extents.
template <class... Views>
void flatten(Views&... views) {
  if (!(is_dense(views) && ...)) return;
  ((views = Rows{.data = views.data,
                 .rows = views.elements() > 0 ? 1 : 0,
                 .cols = views.elements(),
                 .stride = views.elements(),
                 .dtype = views.dtype}),
   ...);
}

/// old + value or value, as the mode says.
template <class T>
T written(GradWrite write, T old, T value) {
  return write == GradWrite::accumulate ? old + value : value;
}

}  // namespace lamina::kernels::cpu
