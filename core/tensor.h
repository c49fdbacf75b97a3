// SPDX-License-Identifier: MIT
// Tensor: data only. A handle to a Storage with an offset, a shape, strides and a dtype; copying
// the handle shares the data. Gradients live in Var (autograd/var.h). Views never copy;
// contiguous() and to() do, explicitly. Work is queued on the current stream of the tensor's
// device.
#pragma once

#include "core/device.h"
#include "core/dtype.h"
#include "core/random.h"
#include "core/shape.h"
#include "core/storage.h"
#include "core/stream.h"
#include "core/view.h"

#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <ostream>
#include <span>
#include <vector>

namespace lamina {

using Strides = std::array<std::int64_t, Shape::kMaxRank>;  // elements, one per dimension

class Tensor {
 public:
  Tensor() = default;  // empty handle: no storage, false
  Tensor(std::shared_ptr<Storage> storage, std::int64_t offset, const Shape& shape,
         const Strides& strides, DType dtype);

  explicit operator bool() const { return storage_ != nullptr; }

  const Shape& shape() const { return shape_; }

  std::int64_t dim(int i) const { return shape_[i]; }

  int rank() const { return shape_.rank(); }

  std::int64_t elements() const { return shape_.elements(); }

  std::size_t bytes() const { return static_cast<std::size_t>(elements()) * size_of(dtype_); }

  const Strides& strides() const { return strides_; }

  DType dtype() const { return dtype_; }

  Device device() const { return storage_ ? storage_->device() : kCpu; }

  const std::shared_ptr<Storage>& storage() const { return storage_; }

  bool is_contiguous() const;

  /// Address of the first element, on the tensor's device.
  void* data() const;

  /// The same as a typed pointer. Throws DTypeError when T is not the element type.
  template <class T>
  T* data() const {
    expect_dtype(dtype_of<T>);
    return static_cast<T*>(data());
  }

  /// The same data under another shape; one extent may be -1. Throws ShapeError when the number of
  /// elements differs or the tensor is not contiguous.
  Tensor reshape(std::initializer_list<std::int64_t> extents) const {
    return reshape(std::span(extents.begin(), extents.size()));
  }

  Tensor reshape(std::span<const std::int64_t> extents) const;
  Tensor reshape(const Shape& shape) const;

  /// Positions [begin, end) of dimension `dim`; a view.
  Tensor slice(int dim, std::int64_t begin, std::int64_t end) const;

  /// Dimensions a and b exchanged; a view.
  Tensor transpose(int a, int b) const;

  /// This tensor if it is contiguous, else a contiguous copy.
  Tensor contiguous() const;
  Tensor clone() const;

  /// Conversion of dtype, of device, or both; returns this tensor when nothing changes.
  /// A copy to the CPU waits for the data.
  Tensor to(DType dtype) const;
  Tensor to(Device device) const;

  Tensor to(Device device, DType dtype) const { return to(dtype).to(device); }

  /// Overwrites the elements with those of `from` (same shape; any dtype, device or strides).
  void copy_from(const Tensor& from) const;

  /// Sets every element; the value is rounded to the dtype.
  void fill(double value) const;

  /// The only element, converted to T. Waits for the device. Throws ShapeError for more than one.
  template <class T>
  T item() const {
    expect_one_element();
    return to(kCpu).to(dtype_of<T>).template data<T>()[0];
  }

  /// All elements in row-major order, converted to T. Waits for the device. Throws Error for an
  /// empty handle.
  template <class T>
  std::vector<T> to_vector() const {
    expect_values();
    const Tensor host = to(kCpu).to(dtype_of<T>).contiguous();
    const T* first = host.template data<T>();
    return std::vector<T>(first, first + elements());
  }

 private:
  void expect_dtype(DType wanted) const;
  void expect_one_element() const;
  void expect_values() const;

  std::shared_ptr<Storage> storage_;
  std::int64_t offset_ = 0;  // elements
  Shape shape_;
  Strides strides_{};
  DType dtype_ = DType::f32;
};

/// New tensors. Contents of empty() are unspecified. All throw OutOfMemory.
Tensor empty(const Shape& shape, DType dtype = DType::f32, Device device = kCpu);
Tensor empty_like(const Tensor& like);  // shape, dtype and device; contiguous
Tensor zeros(const Shape& shape, DType dtype = DType::f32, Device device = kCpu);
Tensor full(const Shape& shape, double value, DType dtype = DType::f32, Device device = kCpu);

/// Standard normal, and uniform in [low, high), element i from word i of the generator's next
/// region: the same numbers on every device, generated in double and rounded to the dtype.
Tensor randn(const Shape& shape, Generator& generator, DType dtype = DType::f32,
             Device device = kCpu);
Tensor uniform(const Shape& shape, double low, double high, Generator& generator,
               DType dtype = DType::f32, Device device = kCpu);

/// A copy of host data. Throws ShapeError when the sizes differ.
template <class T>
Tensor from_span(std::span<const T> values, const Shape& shape, Device device = kCpu);

template <class T>
Tensor from_vector(const std::vector<T>& values, const Shape& shape, Device device = kCpu) {
  return from_span(std::span<const T>(values), shape, device);
}

/// Prints "[2, 3] f32 cpu" and the values, the middle left out above six per dimension.
std::ostream& operator<<(std::ostream& out, const Tensor& tensor);

/// The tensor as rows of its last dimension; rank 0 and 1 are one row. An empty handle gives an
/// empty view. Throws ShapeError when the last dimension is not contiguous, the leading ones do not
/// collapse to one pitch, or rows overlap; call contiguous() first.
Rows rows(const Tensor& tensor);

/// The tensor as a vector of all its elements; must be contiguous. An empty handle gives an empty
/// view.
Flat flat(const Tensor& tensor);

/// The current stream of the tensor's device.
Stream stream_of(const Tensor& tensor);

/// The dtype in which sums over elements of `dtype` are kept: f64 for f64, else f32.
constexpr DType accumulation_dtype(DType dtype) {
  return dtype == DType::f64 ? DType::f64 : DType::f32;
}

/// True when no other handle refers to the tensor's storage: it may be written in place.
inline bool is_sole_owner(const Tensor& tensor) {
  return tensor.storage().use_count() == 1;
}

}  // namespace lamina
