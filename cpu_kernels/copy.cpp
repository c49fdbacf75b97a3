// SPDX-License-Identifier: MIT
#include "core/kernels/copy.h"

#include "cpu_kernels/convert.h"
#include "cpu_kernels/parallel.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace lamina::kernels {
namespace {

struct Dim {
  std::int64_t extent, from_stride, to_stride;
};

/// The index space with as few dimensions as the strides allow, outermost first; the last is the
/// one that loops run over.
struct Space {
  std::array<Dim, Shape::kMaxRank + 1> dims{};
  int rank = 0;
  std::int64_t outer = 1;  // product of all extents but the last

  explicit Space(const Copy& args) {
    for (int i = 0; i < args.shape.rank(); ++i) {
      const auto at = static_cast<std::size_t>(i);
      const Dim dim{args.shape[i], args.from_strides[at], args.to_strides[at]};
      if (dim.extent == 1) continue;
      if (rank > 0) {
        Dim& last = dims[static_cast<std::size_t>(rank - 1)];
        if (last.from_stride == dim.extent * dim.from_stride &&
            last.to_stride == dim.extent * dim.to_stride) {
          last = {last.extent * dim.extent, dim.from_stride, dim.to_stride};
          continue;
        }
      }
      dims[static_cast<std::size_t>(rank++)] = dim;
    }
    if (rank == 0) dims[static_cast<std::size_t>(rank++)] = {1, 1, 1};
    for (int i = 0; i + 1 < rank; ++i)
      outer *= dims[static_cast<std::size_t>(i)].extent;
  }

  const Dim& inner() const { return dims[static_cast<std::size_t>(rank - 1)]; }

  /// Element offsets of the first element of run `index` in [0, outer).
  void offsets(std::int64_t index, std::int64_t& from, std::int64_t& to) const {
    from = to = 0;
    for (int i = rank - 2; i >= 0; --i) {
      const Dim& dim = dims[static_cast<std::size_t>(i)];
      from += index % dim.extent * dim.from_stride;
      to += index % dim.extent * dim.to_stride;
      index /= dim.extent;
    }
  }
};

template <class From, class To>
void copy_run(const From* from, std::int64_t from_stride, To* to, std::int64_t to_stride,
              std::int64_t count) {
  if (from_stride == 1 && to_stride == 1) {
    if constexpr (std::is_same_v<From, To>) {
      std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(To));
    } else {
#pragma omp simd
      for (std::int64_t i = 0; i < count; ++i)
        to[i] = cpu::convert<To>(from[i]);
    }
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) {
    to[i * to_stride] = cpu::convert<To>(from[i * from_stride]);
  }
}

template <class From, class To>
void add_run(const From* from, std::int64_t from_stride, To* to, std::int64_t to_stride,
             std::int64_t count) {
  using Sum = cpu::Wide<To>;
  for (std::int64_t i = 0; i < count; ++i) {
    To& target = to[i * to_stride];
    target = static_cast<To>(static_cast<Sum>(target) + cpu::convert<Sum>(from[i * from_stride]));
  }
}

}  // namespace

void run(const Copy& args, CpuStream) {
  if (args.write == GradWrite::skip || args.shape.elements() == 0) return;
  const bool accumulate = args.write == GradWrite::accumulate;
  if (accumulate && !is_float(args.to_dtype)) {
    throw DTypeError(cat("copy: dtype of the target is ", args.to_dtype,
                         ", expected a float dtype (it is added to)"));
  }
  const Space space(args);
  const Dim inner = space.inner();
  dispatch_all(args.from_dtype, [&]<class From>() {
    dispatch_all(args.to_dtype, [&]<class To>() {
      cpu::parallel_segments(
          space.outer, inner.extent, [&](std::int64_t run, std::int64_t begin, std::int64_t end) {
            std::int64_t from_offset = 0, to_offset = 0;
            space.offsets(run, from_offset, to_offset);
            const From* const from =
                static_cast<const From*>(args.from) + from_offset + begin * inner.from_stride;
            To* const to = static_cast<To*>(args.to) + to_offset + begin * inner.to_stride;
            if (accumulate) {
              add_run(from, inner.from_stride, to, inner.to_stride, end - begin);
            } else {
              copy_run(from, inner.from_stride, to, inner.to_stride, end - begin);
            }
          });
    });
  });
}

}  // namespace lamina::kernels
