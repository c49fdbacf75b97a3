// SPDX-License-Identifier: MIT
#include "examples/gpt/checkpoint_writer.h"

#include "core/tensor.h"

#include <exception>
#include <span>
#include <string_view>
#include <utility>

namespace lamina::gpt {

CheckpointWriter::CheckpointWriter(Disk& disk, CheckpointStore store, Retention keep, Device device,
                                   std::size_t bytes)
    : disk_(&disk), store_(std::move(store)), keep_(keep), download_(device, bytes) {}

void CheckpointWriter::begin(Content content, std::vector<std::filesystem::path> logs) {
  std::vector<Tensor> tensors = content.model.tensors;
  tensors.insert(tensors.end(), content.optimizer.tensors.begin(), content.optimizer.tensors.end());
  download_.begin(tensors);
  content.optimizer.tensors.clear();
  const auto parameters = static_cast<std::ptrdiff_t>(content.model.tensors.size());
  content.model.tensors.clear();
  const auto write = [this, parameters](const Content& now,
                                        const std::vector<std::filesystem::path>& paths) {
    const std::vector<std::string_view> copies = download_.finish();
    for (const std::filesystem::path& path : paths)
      disk_->sync(path);
    std::vector<CheckpointFile> files = {{"model.safetensors", {now.model.header}},
                                         {"optimizer.safetensors", {now.optimizer.header}},
                                         {"state.json", {now.state}}};
    files[0].pieces.insert(files[0].pieces.end(), copies.begin(), copies.begin() + parameters);
    files[1].pieces.insert(files[1].pieces.end(), copies.begin() + parameters, copies.end());
    store_.commit(now.step, files);
    if (now.is_best) store_.point("best", now.step);
    store_.prune(keep_);
  };
  writing_ = std::async(std::launch::async, write, std::move(content), std::move(logs));
}

std::string CheckpointWriter::wait() {
  if (!writing_.valid()) return "";
  try {
    writing_.get();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

}  // namespace lamina::gpt
