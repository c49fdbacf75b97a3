// SPDX-License-Identifier: MIT
// Scalars for TensorBoard: a file of records, each an Event of its protocol buffers.
// https://github.com/tensorflow/tensorboard, tensorboard/compat/proto/{event,summary}.proto
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>

namespace lamina::gpt {

struct Scalar {
  std::string tag;  // "train/loss": what stands before the slash groups plots
  double value;
};

/// One record: length, its checksum, the Event, its checksum.
std::string event_record(double wall_seconds, std::int64_t step, std::span<const Scalar> scalars);

/// What a file of records holds.
struct EventRecords {
  std::uint64_t count = 0;
  std::uint64_t cut_off = 0;  // bytes at the end that are no whole record, as after a kill
  std::string fault;          // the first wrong checksum, behind which nothing is counted
};

/// Whether a file begins with the length of a record and its checksum.
bool begins_with_record(std::string_view bytes);

/// Looks at the checksums of lengths, and at those of the data if `with_data`.
EventRecords scan_records(std::string_view bytes, bool with_data);

/// Written through at once, so that a run that dies leaves every record.
class EventFile {
 public:
  /// Goes on with the file that is in `directory`, or makes one, named as TensorBoard looks for it.
  /// Throws Error with its path.
  explicit EventFile(const std::filesystem::path& directory);

  /// Throws Error with the reason, as a full disk.
  void write(std::int64_t step, std::span<const Scalar> scalars);

 private:
  void append(const std::string& record);

  std::filesystem::path path_;
  std::ofstream file_;
};

}  // namespace lamina::gpt
