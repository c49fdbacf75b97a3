// SPDX-License-Identifier: MIT
#include "core/tensor.h"

#include "core/expect.h"
#include "core/kernels/copy.h"
#include "core/kernels/fill.h"
#include "core/kernels/random_fill.h"
#include "core/launch.h"

#include <cstring>
#include <ios>
#include <numeric>
#include <optional>
#include <utility>
#if LAMINA_WITH_CUDA
#include "core/cuda/runtime.h"
#endif

namespace lamina {

namespace {

Strides contiguous_strides(const Shape& shape) {
  Strides strides{};
  std::int64_t step = 1;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    strides[static_cast<std::size_t>(i)] = step;
    // Where the product does not fit, another extent is 0: nobody steps.
    std::int64_t next = 0;
    if (!__builtin_mul_overflow(step, std::max<std::int64_t>(shape[i], 1), &next)) step = next;
  }
  return strides;
}

// Between the host and a GPU, or two GPUs; both tensors contiguous and of one dtype.
void copy_across(const Tensor& to, const Tensor& from) {
#if LAMINA_WITH_CUDA
  const Tensor& on_gpu = to.device().is_cuda() ? to : from;
  const bool between_gpus = to.device().is_cuda() && from.device().is_cuda();
  const auto stream = std::get<CudaStream>(stream_of(on_gpu));
  if (!from.device().is_cuda()) cuda::expect_no_capture("copy", stream);
  if (between_gpus) synchronize(from.device());  // the copy is queued on the other device's stream
  cuda::copy(to.data(), to.device(), from.data(), from.device(), from.bytes(), stream);
  if (between_gpus) synchronize(to.device());  // before the source may be freed
#else
  std::memcpy(to.data(), from.data(), from.bytes());
#endif
}

}  // namespace

Tensor::Tensor(std::shared_ptr<Storage> storage, std::int64_t offset, const Shape& shape,
               const Strides& strides, DType dtype)
    : storage_(std::move(storage)),
      offset_(offset),
      shape_(shape),
      strides_(strides),
      dtype_(dtype) {}

bool Tensor::is_contiguous() const {
  if (elements() == 0) return true;  // the product of some extents alone may not fit
  std::int64_t step = 1;
  for (int i = rank() - 1; i >= 0; --i) {
    if (shape_[i] != 1 && strides_[static_cast<std::size_t>(i)] != step) return false;
    step *= shape_[i];
  }
  return true;
}

void* Tensor::data() const {
  if (!storage_ || storage_->data() == nullptr) return nullptr;
  return static_cast<std::byte*>(storage_->data()) +
         static_cast<std::size_t>(offset_) * size_of(dtype_);
}

void Tensor::expect_dtype(DType wanted) const {
  if (dtype_ != wanted) {
    throw DTypeError(cat("data: tensor has dtype ", dtype_, ", expected ", wanted,
                         " (the type asked for); convert with .to(DType::", wanted, ")"));
  }
}

void Tensor::expect_values() const {
  expect_defined("to_vector", "tensor", *this);
}

void Tensor::expect_one_element() const {
  expect_defined("item", "tensor", *this);
  if (elements() != 1) {
    throw ShapeError(
        cat("item: tensor has shape ", shape_, ", expected one element; use to_vector()"));
  }
}

Tensor Tensor::reshape(std::span<const std::int64_t> extents) const {
  std::vector<std::int64_t> known(extents.begin(), extents.end());
  std::int64_t* open = nullptr;
  std::int64_t product = 1;
  for (std::int64_t& extent : known) {
    if (extent != -1) {
      product = checked_mul(product, extent);
    } else if (open == nullptr) {
      open = &extent;
    } else {
      throw ShapeError("reshape: two extents are -1, expected at most one");
    }
  }
  if (open != nullptr) {
    if (product <= 0 || elements() % product != 0) {
      throw ShapeError(cat("reshape: ", elements(), " elements of ", shape_,
                           " do not divide by the given extents (product ", product, ")"));
    }
    *open = elements() / product;
  }
  return reshape(Shape(std::span<const std::int64_t>(known)));
}

Tensor Tensor::reshape(const Shape& shape) const {
  expect_defined("reshape", "tensor", *this);
  if (shape.elements() != elements()) {
    throw ShapeError(cat("reshape: ", shape, " has ", shape.elements(), " elements, expected ",
                         elements(), " (those of ", shape_, ")"));
  }
  if (!is_contiguous()) {
    throw ShapeError(
        cat("reshape: tensor ", shape_,
            " is a strided view, expected contiguous memory; call contiguous() first"));
  }
  return {storage_, offset_, shape, contiguous_strides(shape), dtype_};
}

Tensor Tensor::slice(int dim, std::int64_t begin, std::int64_t end) const {
  expect_defined("slice", "tensor", *this);
  const std::int64_t extent = shape_[dim];  // throws for a dimension that does not exist
  if (begin < 0 || end < begin || end > extent) {
    throw ShapeError(cat("slice: positions ", begin, " to ", end, ", expected a range within [0, ",
                         extent, ") (dimension ", dim, " of ", shape_, ")"));
  }
  const auto at = static_cast<std::size_t>(dim < 0 ? dim + rank() : dim);
  return {storage_, offset_ + begin * strides_[at], shape_.with(dim, end - begin), strides_,
          dtype_};
}

Tensor Tensor::transpose(int a, int b) const {
  expect_defined("transpose", "tensor", *this);
  const Shape shape = shape_.with(a, shape_[b]).with(b, shape_[a]);
  Strides strides = strides_;
  const auto at = [&](int i) { return static_cast<std::size_t>(i < 0 ? i + rank() : i); };
  std::swap(strides[at(a)], strides[at(b)]);
  return {storage_, offset_, shape, strides, dtype_};
}

Tensor Tensor::contiguous() const {
  return is_contiguous() ? *this : clone();
}

Tensor Tensor::clone() const {
  const Tensor copy = empty_like(*this);
  copy.copy_from(*this);
  return copy;
}

Tensor Tensor::to(DType dtype) const {
  if (dtype == dtype_) return *this;
  const Tensor converted = empty(shape_, dtype, device());
  converted.copy_from(*this);
  return converted;
}

Tensor Tensor::to(Device device) const {
  if (device == this->device()) return *this;
  const Tensor moved = empty(shape_, dtype_, device);
  moved.copy_from(*this);
  return moved;
}

void Tensor::copy_from(const Tensor& from) const {
  expect_defined("copy", "the target", *this);
  expect_shape("copy", "the source", from, shape_, "the shape of the target");
  if (elements() == 0) return;
  if (device() == from.device()) {
    launch(stream_of(*this), kernels::Copy{.from = from.data(),
                                           .to = data(),
                                           .shape = shape_,
                                           .from_strides = from.strides(),
                                           .to_strides = strides_,
                                           .from_dtype = from.dtype(),
                                           .to_dtype = dtype_});
    return;
  }
  // Across devices: contiguous memory of one dtype travels; the rest happens on either side.
  const Tensor source = from.to(dtype_).contiguous();
  if (is_contiguous()) {
    copy_across(*this, source);
  } else {
    const Tensor arrived = empty(shape_, dtype_, device());
    copy_across(arrived, source);
    copy_from(arrived);
  }
}

void Tensor::fill(double value) const {
  expect_defined("fill", "tensor", *this);
  if (elements() == 0) return;
  if (is_contiguous()) {
    const Rows all{data(), 1, elements(), elements(), dtype_};
    launch(stream_of(*this), kernels::Fill{.y = all, .value = value});
  } else {  // from one element that repeats: strides of 0
    copy_from(Tensor(full({1}, value, dtype_, device()).storage(), 0, shape_, Strides{}, dtype_));
  }
}

Tensor empty(const Shape& shape, DType dtype, Device device) {
  const std::int64_t bytes =
      checked_mul(shape.elements(), static_cast<std::int64_t>(size_of(dtype)));
  auto storage = std::make_shared<Storage>(static_cast<std::size_t>(bytes), device);
  return {std::move(storage), 0, shape, contiguous_strides(shape), dtype};
}

Tensor empty_like(const Tensor& like) {
  return empty(like.shape(), like.dtype(), like.device());
}

Tensor zeros(const Shape& shape, DType dtype, Device device) {
  return full(shape, 0.0, dtype, device);
}

Tensor full(const Shape& shape, double value, DType dtype, Device device) {
  const Tensor tensor = empty(shape, dtype, device);
  tensor.fill(value);
  return tensor;
}

namespace {

// Made on the host.
Tensor generate(const Shape& shape, Generator& generator, DType dtype, Device device,
                kernels::RandomFill args) {
  const Tensor host = empty(shape, dtype == DType::f64 ? DType::f64 : DType::f32);
  args.y = flat(host);
  args.region = generator.next();
  run(args, CpuStream{});
  return host.to(device, dtype);
}

}  // namespace

Tensor randn(const Shape& shape, Generator& generator, DType dtype, Device device) {
  return generate(shape, generator, dtype, device, {.kind = kernels::RandomKind::normal});
}

Tensor uniform(const Shape& shape, double low, double high, Generator& generator, DType dtype,
               Device device) {
  return generate(shape, generator, dtype, device,
                  {.kind = kernels::RandomKind::uniform, .shift = low, .scale = high - low});
}

template <class T>
Tensor from_span(std::span<const T> values, const Shape& shape, Device device) {
  if (static_cast<std::int64_t>(values.size()) != shape.elements()) {
    throw ShapeError(cat("from_span: ", values.size(), " values, expected ", shape.elements(),
                         " (the elements of ", shape, ")"));
  }
  const Tensor host = empty(shape, dtype_of<T>);
  if (!values.empty()) std::memcpy(host.data(), values.data(), values.size_bytes());
  return host.to(device);
}

template Tensor from_span(std::span<const float>, const Shape&, Device);
template Tensor from_span(std::span<const double>, const Shape&, Device);
template Tensor from_span(std::span<const std::int32_t>, const Shape&, Device);
template Tensor from_span(std::span<const std::int64_t>, const Shape&, Device);
template Tensor from_span(std::span<const std::uint8_t>, const Shape&, Device);
template Tensor from_span(std::span<const Half>, const Shape&, Device);
template Tensor from_span(std::span<const BFloat16>, const Shape&, Device);

Rows rows(const Tensor& tensor) {
  if (!tensor) return {};
  const int rank = tensor.rank();
  const std::int64_t cols = rank == 0 ? 1 : tensor.dim(-1);
  const std::int64_t count = rank == 0 ? 1 : tensor.shape().sub(0, -1).elements();
  Rows view{tensor.data(), count, cols, cols, tensor.dtype()};
  if (tensor.is_contiguous()) return view;

  const Strides& strides = tensor.strides();
  const auto last = static_cast<std::size_t>(rank - 1);
  bool regular = strides[last] == 1 || cols == 1;
  std::optional<std::int64_t> pitch;  // of the innermost leading dimension longer than 1
  std::int64_t expected = 0;
  for (std::size_t i = last; i-- > 0;) {
    const std::int64_t extent = tensor.dim(static_cast<int>(i));
    if (extent == 1) continue;
    if (!pitch) pitch = expected = strides[i];
    regular = regular && strides[i] == expected;
    expected *= extent;
  }
  view.stride = pitch.value_or(cols);
  if (!regular || view.stride < cols) {
    throw ShapeError(
        cat("rows: tensor ", tensor.shape(),
            " has strided or overlapping rows, expected contiguous rows with one pitch; call "
            "contiguous() first"));
  }
  return view;
}

Flat flat(const Tensor& tensor) {
  if (!tensor) return {};
  if (!tensor.is_contiguous()) {
    throw ShapeError(
        cat("flat: tensor ", tensor.shape(),
            " is a strided view, expected contiguous memory; call contiguous() first"));
  }
  return {tensor.data(), tensor.elements(), tensor.dtype()};
}

Stream stream_of(const Tensor& tensor) {
  return current_stream(tensor.device());
}

namespace {

void print(std::ostream& out, const Shape& shape, const std::vector<double>& values, int dim,
           std::int64_t offset) {
  if (dim == shape.rank()) {
    out << values[static_cast<std::size_t>(offset)];
    return;
  }
  constexpr std::int64_t kMost = 6;
  const std::int64_t extent = shape[dim];
  const std::int64_t step = shape.sub(dim + 1, shape.rank()).elements();
  out << '[';
  for (std::int64_t i = 0; i < extent; ++i) {
    if (extent > kMost && i == kMost / 2) {
      out << ", ...";
      i = extent - kMost / 2 - 1;
      continue;
    }
    if (i > 0) out << ", ";
    print(out, shape, values, dim + 1, offset + i * step);
  }
  out << ']';
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const Tensor& tensor) {
  if (!tensor) return out << "(empty handle)";
  out << tensor.shape() << ' ' << tensor.dtype() << ' ' << tensor.device() << ' ';
  const std::streamsize precision = out.precision(5);
  print(out, tensor.shape(), tensor.to_vector<double>(), 0, 0);
  out.precision(precision);
  return out;
}

}  // namespace lamina
