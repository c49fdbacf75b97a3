// SPDX-License-Identifier: MIT
// A device for tests of allocators: addresses that nobody may dereference, a capacity, and streams
// whose work is done when the test says so. It fails the test when a segment is released wrongly or
// an event is spent twice. LimitingSource puts a cap on any other source, to see how code behaves
// when memory runs out.
#pragma once

#include "core/allocator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

namespace lamina::testing {

inline constexpr StreamId kStream = 1, kOther = 2;

constexpr std::size_t operator""_KiB(unsigned long long count) {
  return count << 10U;
}

constexpr std::size_t operator""_MiB(unsigned long long count) {
  return count << 20U;
}

class FakeDevice final : public MemorySource {
 public:
  explicit FakeDevice(std::size_t capacity) : capacity_(capacity) {}

  /// The k-th reserve from now on fails once, however much memory there is; 1 = the next.
  void fail_reserve(int k) { fail_reserve_ = k; }

  /// All reserves fail from the k-th on; 0 = never.
  void fail_reserves_from(int k) { fail_from_ = k; }

  /// The k-th record from now on throws std::runtime_error.
  void fail_record(int k) { fail_record_ = k; }

  void finish_all() {
    const std::lock_guard lock(mutex_);
    for (Queue& queue : queues_)
      queue.finish_until(serial_);
  }

  /// All work queued on the stream so far is done.
  void finish(StreamId stream) {
    const std::lock_guard lock(mutex_);
    queues_[slot_of(stream)].finish_until(serial_);
  }

  /// The oldest event of the stream is done, if there is one to come.
  void finish_one(StreamId stream) {
    const std::lock_guard lock(mutex_);
    Queue& queue = queues_[slot_of(stream)];
    if (!queue.waiting.empty()) queue.finish_until(queue.waiting.front());
  }

  /// Whether the work that events (after, until] of last_event() stand for is done, on whatever
  /// streams.
  bool finished_between(Event after, Event until) const {
    const std::lock_guard lock(mutex_);
    for (const Queue& queue : queues_) {
      for (const Event serial : queue.waiting) {
        if (serial > after >> kSlotBits && serial <= until >> kSlotBits) return false;
      }
    }
    return true;
  }

  /// Whether [address, address + bytes) lies in one reserved segment.
  bool holds(const void* address, std::size_t bytes) const {
    const std::lock_guard lock(mutex_);
    const auto begin = reinterpret_cast<std::uintptr_t>(address);
    auto segment = segments_.upper_bound(begin);
    if (segment == segments_.begin()) return false;
    --segment;
    return begin + bytes <= segment->first + segment->second;
  }

  std::size_t used() const { return locked(used_); }

  std::size_t segments() const { return locked(segments_).size(); }

  int reserve_calls() const { return locked(reserve_calls_); }

  int record_calls() const { return locked(record_calls_); }

  int query_calls() const { return locked(query_calls_); }

  int waits() const { return locked(waits_); }

  /// Events that were recorded and neither found done, waited for nor discarded.
  std::set<Event> unspent() const { return locked(unspent_); }

  /// The event that was recorded last; 0 = none yet.
  Event last_event() const { return locked(last_event_); }

  void* reserve(std::size_t bytes) override {
    const std::lock_guard lock(mutex_);
    ++reserve_calls_;
    if (fail_reserve_ > 0 && --fail_reserve_ == 0) return nullptr;
    if (fail_from_ > 0 && reserve_calls_ >= fail_from_) return nullptr;
    if (bytes > capacity_ - used_) return nullptr;
    used_ += bytes;
    const std::uintptr_t address = next_;
    next_ += (bytes + kGap) / kGap * kGap + kGap;
    segments_.emplace(address, bytes);
    return reinterpret_cast<void*>(address);
  }

  void release(void* memory, std::size_t bytes) noexcept override {
    const std::lock_guard lock(mutex_);
    const auto segment = segments_.find(reinterpret_cast<std::uintptr_t>(memory));
    if (segment == segments_.end() || segment->second != bytes) {
      ADD_FAILURE() << "release of " << memory << ", " << bytes << " bytes: no such segment";
      return;
    }
    segments_.erase(segment);
    used_ -= bytes;
  }

  Event record(StreamId stream) override {
    const std::lock_guard lock(mutex_);
    ++record_calls_;
    if (fail_record_ > 0 && --fail_record_ == 0) throw std::runtime_error("fake: record failed");
    const std::size_t slot = slot_of(stream);
    queues_[slot].waiting.push_back(++serial_);
    last_event_ = serial_ << kSlotBits | slot;
    unspent_.insert(last_event_);
    return last_event_;
  }

  bool done(Event event) override {
    const std::lock_guard lock(mutex_);
    ++query_calls_;
    if (unspent_.count(event) == 0) ADD_FAILURE() << "done() of a spent event";
    if (!finished(event)) return false;
    unspent_.erase(event);
    return true;
  }

  void wait(Event event) override {
    const std::lock_guard lock(mutex_);
    ++waits_;
    if (unspent_.erase(event) == 0) ADD_FAILURE() << "wait() for a spent event";
    queues_[event & kSlotMask].finish_until(event >> kSlotBits);
  }

  void discard(Event event) noexcept override {
    const std::lock_guard lock(mutex_);
    if (unspent_.erase(event) == 0) ADD_FAILURE() << "discard() of a spent event";
  }

  std::string name() const override { return "fake:0"; }

  Info info() const override {
    const std::lock_guard lock(mutex_);
    return {.total = capacity_, .free = capacity_ - used_};
  }

 private:
  static constexpr std::uintptr_t kGap =
      4096;  // between segments, so that an overrun is outside of all
  static constexpr unsigned kSlotBits = 8;  // an event is (serial number, stream's slot)
  static constexpr Event kSlotMask = (Event{1} << kSlotBits) - 1;

  struct Queue {
    StreamId stream = 0;
    Event finished = 0;         // serial number up to which the stream's work is done
    std::deque<Event> waiting;  // serial numbers of the events to come

    void finish_until(Event serial) {
      finished = std::max(finished, serial);
      while (!waiting.empty() && waiting.front() <= finished)
        waiting.pop_front();
    }
  };

  template <class T>
  T locked(const T& value) const {
    const std::lock_guard lock(mutex_);
    return value;
  }

  bool finished(Event event) const {
    return event >> kSlotBits <= queues_[event & kSlotMask].finished;
  }

  std::size_t slot_of(StreamId stream) {
    for (std::size_t slot = 0; slot < queues_.size(); ++slot) {
      if (queues_[slot].stream == stream) return slot;
    }
    queues_.push_back({.stream = stream, .finished = 0, .waiting = {}});
    return queues_.size() - 1;
  }

  mutable std::mutex mutex_;
  const std::size_t capacity_;
  std::size_t used_ = 0;
  std::uintptr_t next_ = std::uintptr_t{1} << 40U;
  std::map<std::uintptr_t, std::size_t> segments_;  // address -> bytes
  std::vector<Queue> queues_;
  std::set<Event> unspent_;
  Event serial_ = 0;
  Event last_event_ = 0;
  int reserve_calls_ = 0;
  int record_calls_ = 0;
  int query_calls_ = 0;
  int waits_ = 0;
  int fail_reserve_ = 0;
  int fail_from_ = 0;
  int fail_record_ = 0;
};

/// Passes everything on, and is out of memory when `limit` bytes would be exceeded.
class LimitingSource final : public MemorySource {
 public:
  LimitingSource(MemorySource& source, std::size_t limit) : source_(source), limit_(limit) {}

  void* reserve(std::size_t bytes) override {
    const std::lock_guard lock(mutex_);
    if (bytes > limit_ - used_) return nullptr;
    void* memory = source_.reserve(bytes);
    if (memory != nullptr) used_ += bytes;
    return memory;
  }

  void release(void* memory, std::size_t bytes) noexcept override {
    const std::lock_guard lock(mutex_);
    source_.release(memory, bytes);
    used_ -= bytes;
  }

  Event record(StreamId stream) override { return source_.record(stream); }

  bool done(Event event) override { return source_.done(event); }

  void wait(Event event) override { source_.wait(event); }

  void discard(Event event) noexcept override { source_.discard(event); }

  std::string name() const override { return source_.name(); }

  Info info() const override {
    const std::lock_guard lock(mutex_);
    return {.total = limit_, .free = limit_ - used_};
  }

  void mark(void* memory, std::size_t bytes, bool usable) noexcept override {
    source_.mark(memory, bytes, usable);
  }

 private:
  mutable std::mutex mutex_;
  MemorySource& source_;
  const std::size_t limit_;
  std::size_t used_ = 0;
};

}  // namespace lamina::testing
