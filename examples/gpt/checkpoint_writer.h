// SPDX-License-Identifier: MIT
// Writes checkpoints while training goes on: tensors are copied between two steps, on the device
// where it has room, and a thread does the rest. The next checkpoint waits for it.
#pragma once

#include "core/download.h"
#include "examples/gpt/checkpoint_store.h"
#include "nn/safetensors.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <future>
#include <string>
#include <vector>

namespace lamina::gpt {

class CheckpointWriter {
 public:
  struct Content {
    std::int64_t step = 0;
    nn::TensorFile model, optimizer;
    std::string state;  // of state.json
    bool is_best = false;
  };

  /// `disk` outlives the writer. The tensors are on `device` and have `bytes` bytes together: as
  /// much host memory is taken.
  CheckpointWriter(Disk& disk, CheckpointStore store, Retention keep, Device device,
                   std::size_t bytes);

  /// Copies the content and returns. `logs`, which the checkpoint relies on, are synced before it.
  /// To be called after wait().
  void begin(Content content, std::vector<std::filesystem::path> logs);

  /// Waits until what was begun is on the disk, and returns why it is not; empty when it is.
  std::string wait();

 private:
  Disk* disk_;
  CheckpointStore store_;
  Retention keep_;
  Download download_;
  std::future<void> writing_;  // waits in its destructor
};

}  // namespace lamina::gpt
