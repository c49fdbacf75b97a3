// SPDX-License-Identifier: MIT
#include "core/memory_snapshot.h"

#include "core/text.h"
#include "core/trace.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <numeric>
#include <tuple>
#include <unordered_map>
#include <utility>

namespace lamina {

namespace {

using Action = MemoryEvent::Action;
using BlockSnapshot = SegmentSnapshot::Block;

/// An event and the number of its history.
struct PooledEvent {
  const MemoryEvent* event;
  std::size_t pool;
};

std::vector<PooledEvent> in_order(std::span<const MemoryHistory> histories) {
  std::vector<PooledEvent> all;
  for (std::size_t pool = 0; pool < histories.size(); ++pool) {
    for (const MemoryEvent& event : histories[pool].events)
      all.push_back({&event, pool});
  }
  std::stable_sort(all.begin(), all.end(), [](const PooledEvent& a, const PooledEvent& b) {
    return a.event->time_ns < b.event->time_ns;
  });
  return all;
}

template <class Visit>
void for_each_block(std::span<const MemoryHistory> histories, Visit visit) {
  for (const MemoryHistory& history : histories) {
    for (const SegmentSnapshot& segment : history.segments) {
      for (const BlockSnapshot& block : segment.blocks)
        visit(block);
    }
  }
}

void sort_by_size(std::vector<MemoryHolder>& holders) {
  std::stable_sort(holders.begin(), holders.end(),
                   [](const auto& a, const auto& b) { return a.bytes > b.bytes; });
}

bool takes(Action action) {
  return action == Action::alloc;
}

bool gives_back(Action action) {
  return action == Action::free || action == Action::free_requested;
}

}  // namespace

MemoryHistory::MemoryHistory(const CachingAllocator& allocator)
    : events(allocator.history()), segments(allocator.snapshot()) {}

std::vector<MemorySample> memory_over_time(std::span<const MemoryHistory> histories) {
  const std::vector<PooledEvent> events = in_order(histories);
  MemorySample now;
  for_each_block(histories, [&](const BlockSnapshot& block) {
    now.reserved += block.bytes;
    if (block.state == BlockSnapshot::State::live) now.live += block.bytes;
  });
  // Backwards from what is there now: what was there before the first event is in no history.
  std::vector<MemorySample> samples(events.size());
  for (std::size_t i = events.size(); i-- > 0;) {
    const MemoryEvent& event = *events[i].event;
    samples[i] = {event.time_ns, now.live, now.reserved};
    if (takes(event.action)) now.live -= event.bytes;
    if (gives_back(event.action)) now.live += event.bytes;
    if (event.action == Action::reserve) now.reserved -= event.bytes;
    if (event.action == Action::release) now.reserved += event.bytes;
  }
  return samples;
}

std::vector<MemoryHolder> holders_at_peak(std::span<const MemoryHistory> histories) {
  const std::vector<PooledEvent> events = in_order(histories);
  const std::vector<MemorySample> samples = memory_over_time(histories);
  std::size_t peak = 0;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    if (samples[i].live >= samples[peak].live) peak = i;
  }
  std::map<std::pair<std::string_view, Direction>, MemoryHolder> found;
  const auto holder = [&](std::string_view scope, Direction direction) -> MemoryHolder& {
    MemoryHolder& entry = found[{scope, direction}];
    entry.scope = scope, entry.direction = direction;
    return entry;
  };
  for_each_block(histories, [&](const BlockSnapshot& block) {
    if (block.state != BlockSnapshot::State::live) return;
    MemoryHolder& entry = holder(block.scope, block.direction);
    entry.bytes += block.bytes, ++entry.blocks;
  });
  for (std::size_t i = events.size(); i-- > peak + 1;) {
    const MemoryEvent& event = *events[i].event;
    MemoryHolder& entry = holder(event.scope, event.direction);
    if (takes(event.action)) entry.bytes -= event.bytes, --entry.blocks;
    if (gives_back(event.action)) entry.bytes += event.bytes, ++entry.blocks;
  }
  std::vector<MemoryHolder> holders;
  for (auto& [key, entry] : found) {
    if (entry.blocks > 0) holders.push_back(std::move(entry));
  }
  sort_by_size(holders);
  return holders;
}

std::string memory_table(std::span<const MemoryHistory> histories, std::size_t layers) {
  const std::vector<MemoryHolder> holders = holders_at_peak(histories);
  const auto total =
      std::accumulate(holders.begin(), holders.end(), std::size_t{0},
                      [](std::size_t sum, const MemoryHolder& one) { return sum + one.bytes; });
  std::string text;
  const auto add = [&](const std::string& name, std::string_view category, std::size_t bytes,
                       std::size_t blocks) {
    std::array<char, 256> line{};
    std::snprintf(
        line.data(), line.size(), "%-32s %-12s %7zu %10s %5.1f%%\n", name.c_str(),
        std::string(category).c_str(), blocks, bytes_text(bytes).c_str(),
        total > 0 ? 100.0 * static_cast<double>(bytes) / static_cast<double>(total) : 0.0);
    text += line.data();
  };
  std::vector<MemoryHolder> categories;  // scope: the name
  for (const MemoryHolder& one : holders) {
    const std::string_view name = memory_category(one.scope, one.direction);
    auto found = std::find_if(categories.begin(), categories.end(),
                              [&](const MemoryHolder& other) { return other.scope == name; });
    if (found == categories.end()) {
      found = categories.insert(found, {.scope = std::string(name)});
    }
    found->bytes += one.bytes, found->blocks += one.blocks;
  }
  sort_by_size(categories);
  std::array<char, 256> header{};
  std::snprintf(header.data(), header.size(), "%-32s %-12s %7s %10s %6s\n", "layer at the peak",
                "category", "blocks", "memory", "share");
  text += header.data();
  for (const MemoryHolder& one : categories)
    add("(all)", one.scope, one.bytes, one.blocks);
  for (std::size_t i = 0; i < std::min(layers, holders.size()); ++i) {
    const MemoryHolder& one = holders[i];
    add(one.scope.empty() ? "(no layer)" : one.scope, memory_category(one.scope, one.direction),
        one.bytes, one.blocks);
  }
  if (holders.size() > layers) {
    std::size_t bytes = 0, blocks = 0;
    for (std::size_t i = layers; i < holders.size(); ++i)
      bytes += holders[i].bytes, blocks += holders[i].blocks;
    add(cat("(", holders.size() - layers, " more)"), "", bytes, blocks);
  }

  std::size_t reserved = 0, cached = 0, largest = 0;
  for_each_block(histories, [&](const BlockSnapshot& block) {
    reserved += block.bytes;
    if (block.state != BlockSnapshot::State::free) return;
    cached += block.bytes;
    largest = std::max(largest, block.bytes);
  });
  const double scattered =
      cached == 0 ? 0.0
                  : 100.0 - 100.0 * static_cast<double>(largest) / static_cast<double>(cached);
  std::array<char, 64> percent{};
  std::snprintf(percent.data(), percent.size(), "%.0f%%", scattered);
  return text + cat("peak ", bytes_text(total), "; now ", bytes_text(reserved), " reserved, ",
                    bytes_text(cached), " of it cached, the largest block of that ",
                    bytes_text(largest), " (fragmentation ", percent.data(), ")\n");
}

namespace {

/// Writes the part of the pickle format, protocol 2, that the viewer reads: dictionaries, lists,
/// tuples of two, integers, booleans and text. https://docs.python.org/3/library/pickletools.html
class Pickle {
 public:
  Pickle() { out_ = "\x80\x02"; }

  std::string finish() && { return std::move(out_) + '.'; }

  void begin_dictionary() { out_ += "}("; }

  void end_dictionary() { out_ += 'u'; }

  /// `write(i)` writes item i. In parts: the viewer passes the items of one to a function call.
  template <class Write>
  void list(std::size_t count, Write write) {
    constexpr std::size_t kPart = 1000;
    out_ += ']';
    for (std::size_t first = 0; first < count; first += kPart) {
      out_ += '(';
      for (std::size_t i = first; i < std::min(first + kPart, count); ++i)
        write(i);
      out_ += 'e';
    }
  }

  void number(std::uint64_t value) {
    if (value < (std::uint64_t{1} << 31U)) {
      out_ += 'J';
      bytes(value, 4);
    } else {
      out_ += "\x8a\x08";  // signed: addresses are below 2^63
      bytes(value, 8);
    }
  }

  void boolean(bool value) { out_ += value ? '\x88' : '\x89'; }

  void pair_of_numbers(std::uint64_t first, std::uint64_t second) {
    number(first);
    number(second);
    out_ += '\x86';
  }

  /// Each text is written once and then referred to.
  void text(std::string_view value) {
    const auto [known, is_new] = memo_.try_emplace(std::string(value), next_);
    if (!is_new) return recall(known->second);
    out_ += 'X';
    bytes(value.size(), 4);
    out_ += value;
    remember();
  }

  /// Names what was written last. Returns its number for recall().
  std::uint64_t remember() {
    out_ += 'r';
    bytes(next_, 4);
    return next_++;
  }

  void recall(std::uint64_t number) {
    out_ += 'j';
    bytes(number, 4);
  }

  void field(std::string_view key, std::uint64_t value) {
    text(key);
    number(value);
  }

  void field(std::string_view key, std::string_view value) {
    text(key);
    text(value);
  }

 private:
  void bytes(std::uint64_t value, int count) {
    for (int i = 0; i < count; ++i)
      out_ += static_cast<char>(value >> (8 * i) & 0xFFU);
  }

  std::string out_;
  std::unordered_map<std::string, std::uint64_t> memo_;
  std::uint64_t next_ = 0;
};

std::uint64_t number_of(const void* address) {
  return reinterpret_cast<std::uintptr_t>(address);
}

/// Finds the op that a block was allocated for.
class Ops {
 public:
  explicit Ops(std::span<const TraceKernel> launches) : launches_(launches) {}

  /// Of an allocation; called in order of time.
  std::string_view next(const MemoryEvent& event) {
    while (at_ < launches_.size() && launches_[at_].start_ns < event.time_ns)
      ++at_;
    if (at_ == launches_.size()) return "";
    const TraceKernel& launch = launches_[at_];
    const bool fits = launch.layer == event.scope && launch.direction == event.direction;
    return fits ? launch.op : "";
  }

 private:
  std::span<const TraceKernel> launches_;
  std::size_t at_ = 0;
};

class SnapshotWriter {
 public:
  SnapshotWriter(std::span<const MemoryHistory> histories, std::span<const TraceKernel> launches,
                 int device)
      : histories_(histories), launches_(launches), device_(device) {}

  std::string write() {
    // Events first: they say which op a block that is still live belongs to.
    pickle_.begin_dictionary();
    pickle_.text("device_traces");
    pickle_.list(static_cast<std::size_t>(device_) + 1, [&](std::size_t i) {
      static_cast<int>(i) == device_ ? write_events() : pickle_.list(0, [](std::size_t) {});
    });
    pickle_.text("segments");
    std::vector<std::pair<const SegmentSnapshot*, std::size_t>> segments;
    for (std::size_t pool = 0; pool < histories_.size(); ++pool) {
      for (const SegmentSnapshot& segment : histories_[pool].segments)
        segments.emplace_back(&segment, pool);
    }
    pickle_.list(segments.size(),
                 [&](std::size_t i) { write_segment(*segments[i].first, segments[i].second); });
    pickle_.text("allocator_settings");
    pickle_.begin_dictionary();
    pickle_.end_dictionary();
    pickle_.end_dictionary();
    return std::move(pickle_).finish();
  }

 private:
  /// What one event becomes: most one, a free two.
  struct Entry {
    std::string_view action;
    const MemoryEvent* event;
    std::string_view op;
  };

  static std::string_view name_of(Action action) {
    switch (action) {
      case Action::alloc:
        return "alloc";
      case Action::free:
      case Action::free_requested:
        return "free_requested";
      case Action::free_completed:
        return "free_completed";
      case Action::reserve:
        return "segment_alloc";
      case Action::release:
        return "segment_free";
      case Action::out_of_memory:
        return "oom";
    }
    return "";
  }

  std::vector<Entry> entries() {
    std::vector<Entry> all;
    Ops ops(launches_);
    for (const auto& [event, pool] : in_order(histories_)) {
      std::string_view op;
      if (event->action == Action::alloc) op = op_of_[event->address] = ops.next(*event);
      const bool is_free = gives_back(event->action) || event->action == Action::free_completed;
      if (is_free) {
        const auto known = op_of_.find(event->address);
        if (known != op_of_.end()) op = known->second;
        if (event->action != Action::free_requested) op_of_.erase(event->address);
      }
      all.push_back({name_of(event->action), event, op});
      if (event->action == Action::free) all.push_back({"free_completed", event, op});
    }
    return all;
  }

  void write_events() {
    const std::vector<Entry> all = entries();
    pickle_.list(all.size() + 1, [&](std::size_t i) {
      pickle_.begin_dictionary();
      if (i < all.size()) {
        write_event(all[i]);
      } else {
        // Ends the list as PyTorch does. The category: the viewer's script fails when some events
        // have one and none has this one.
        pickle_.field("action", "snapshot");
        pickle_.field("addr", 0);
        pickle_.field("size", 0);
        pickle_.field("stream", 0);
        pickle_.field("category", "unknown");
      }
      pickle_.end_dictionary();
    });
  }

  void write_event(const Entry& entry) {
    const MemoryEvent& event = *entry.event;
    pickle_.field("action", entry.action);
    pickle_.field(event.action == Action::out_of_memory ? "device_free" : "addr",
                  number_of(event.address));
    pickle_.field("size", event.bytes);
    pickle_.field("stream", event.stream);
    pickle_.field("time_us", static_cast<std::uint64_t>(event.time_ns / 1000));
    pickle_.field("category", memory_category(event.scope, event.direction));
    write_frames(entry.op, event.scope, event.direction);
  }

  void write_segment(const SegmentSnapshot& segment, std::size_t pool) {
    using State = BlockSnapshot::State;
    std::size_t live = 0, active = 0, requested = 0;
    for (const BlockSnapshot& block : segment.blocks) {
      if (block.state == State::live) live += block.bytes;
      if (block.state != State::free) active += block.bytes;
      requested += block.requested;
    }
    constexpr std::size_t kSmall = std::size_t{2} << 20U;  // what PyTorch calls small
    pickle_.begin_dictionary();
    pickle_.field("device", static_cast<std::uint64_t>(device_));
    pickle_.field("address", number_of(segment.address));
    pickle_.field("total_size", segment.bytes);
    pickle_.field("allocated_size", live);
    pickle_.field("active_size", active);
    pickle_.field("requested_size", requested);
    pickle_.field("stream", segment.stream);
    pickle_.field("segment_type", segment.bytes <= kSmall ? "small" : "large");
    pickle_.text("segment_pool_id");
    pickle_.pair_of_numbers(0, pool);
    pickle_.text("is_expandable");
    pickle_.boolean(false);
    pickle_.text("frames");
    pickle_.list(0, [](std::size_t) {});
    pickle_.text("blocks");
    pickle_.list(segment.blocks.size(), [&](std::size_t i) {
      const BlockSnapshot& block = segment.blocks[i];
      const bool is_live = block.state == State::live;
      pickle_.begin_dictionary();
      pickle_.field("address", number_of(block.address));
      pickle_.field("size", block.bytes);
      pickle_.field("requested_size", is_live ? block.requested : block.bytes);
      pickle_.field("state", is_live                         ? "active_allocated"
                             : block.state == State::pending ? "active_pending_free"
                                                             : "inactive");
      const auto op = op_of_.find(block.address);
      const bool is_held = block.state != State::free;
      write_frames(is_held && op != op_of_.end() ? op->second : "", block.scope, block.direction,
                   is_held);
      pickle_.end_dictionary();
    });
    pickle_.end_dictionary();
  }

  /// "frames" with one entry, or none. Equal ones are written once.
  void write_frames(std::string_view op, std::string_view scope, Direction direction,
                    bool has_frame = true) {
    pickle_.text("frames");
    if (!has_frame) return pickle_.list(0, [](std::size_t) {});
    const auto [known, is_new] = frames_.try_emplace({op, scope, direction});
    if (!is_new) return pickle_.recall(known->second);
    pickle_.list(1, [&](std::size_t) {
      const std::string_view layer = scope.empty() ? "(no layer)" : scope;
      pickle_.begin_dictionary();
      pickle_.field("name", op.empty() ? std::string(layer) : cat(op, " @ ", layer));
      pickle_.field("filename", direction == Direction::forward ? "forward" : "backward");
      pickle_.field("line", 0);
      pickle_.end_dictionary();
    });
    known->second = pickle_.remember();
  }

  std::span<const MemoryHistory> histories_;
  std::span<const TraceKernel> launches_;
  int device_;
  Pickle pickle_;
  std::unordered_map<const void*, std::string_view> op_of_;  // of live and pending blocks
  std::map<std::tuple<std::string_view, std::string_view, Direction>, std::uint64_t> frames_;
};

}  // namespace

std::string memory_snapshot(std::span<const MemoryHistory> histories,
                            std::span<const TraceKernel> launches, int device) {
  return SnapshotWriter(histories, launches, device).write();
}

}  // namespace lamina
