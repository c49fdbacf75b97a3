// SPDX-License-Identifier: MIT
// Contracts: rows of a table by token, and the gradient of the table.
#pragma once

#include "core/stream.h"
#include "core/view.h"

#include <string_view>

namespace lamina::kernels {

/// y[i, :] = table[tokens[i], :]. A token outside [0, table.rows) gives a row of NaN on CUDA and an
/// Error on the CPU.
struct Embedding {
  static constexpr std::string_view kName = "embedding";
  Flat tokens;  // [n], i32, in
  Rows table;   // [vocabulary, cols], in
  Rows y;       // [n, cols], dtype of table, out

  Cost cost() const { return {.bytes = bytes_of(tokens) + 2 * bytes_of(y)}; }
};

/// dtable[v, :] = sum over i with tokens[i] == v of dy[i, :], in order of i, or += that. With
/// overwrite the rows of absent tokens become 0. Tokens outside the table are left out.
struct EmbeddingBackward {
  static constexpr std::string_view kName = "embedding_backward";
  Flat tokens;  // [n], i32, in
  Rows dy;      // [n, cols], in
  Rows dtable;  // [vocabulary, cols], f32 or the dtype of dy, out
  GradWrite write;
  Flat workspace;  // u8, workspace_bytes() long

  Cost cost() const {
    return {.bytes = bytes_of(tokens) + bytes_of(dy) + bytes_of(dtable), .flops = dy.elements()};
  }
};

void run(const Embedding& args, CpuStream stream);
void run(const Embedding& args, CudaStream stream);
void run(const EmbeddingBackward& args, CpuStream stream);
void run(const EmbeddingBackward& args, CudaStream stream);
std::int64_t workspace_bytes(const EmbeddingBackward& args, CpuStream stream);
std::int64_t workspace_bytes(const EmbeddingBackward& args, CudaStream stream);

}  // namespace lamina::kernels
