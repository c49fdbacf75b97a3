// SPDX-License-Identifier: MIT
#include "core/host_memory.h"

#include <new>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace lamina {

namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kHugePage = std::size_t{2} << 20U;

std::align_val_t alignment_of(std::size_t bytes) {
  return std::align_val_t{bytes >= kHugePage ? kHugePage : kPage};
}

class HostMemory final : public MemorySource {
 public:
  void* reserve(std::size_t bytes) override {
    // Linux grants more than there is, and ends the program when it is touched: better an exception
    // now.
    if (bytes > info().total) return nullptr;
    void* memory = ::operator new(bytes, alignment_of(bytes), std::nothrow);
#if defined(MADV_HUGEPAGE)
    // Advice only: a kernel without huge pages refuses it, and nothing but speed is lost.
    if (memory != nullptr && bytes >= kHugePage) madvise(memory, bytes, MADV_HUGEPAGE);
#endif
    return memory;
  }

  void release(void* memory, std::size_t bytes) noexcept override {
    mark(memory, bytes, true);
    ::operator delete(memory, alignment_of(bytes));
  }

  Event record(StreamId /*stream*/) override {
    return 0;
  }

  bool done(Event /*event*/) override {
    return true;
  }

  void wait(Event /*event*/) override {}

  void discard(Event /*event*/) noexcept override {}

  std::string name() const override {
    return "cpu";
  }

  Info info() const override {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    return {.total = static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) * page,
            .free = static_cast<std::size_t>(sysconf(_SC_AVPHYS_PAGES)) * page};
  }

#if defined(__SANITIZE_ADDRESS__)
  void mark(void* memory, std::size_t bytes, bool usable) noexcept override {
    if (usable) {
      ASAN_UNPOISON_MEMORY_REGION(memory, bytes);
    } else {
      ASAN_POISON_MEMORY_REGION(memory, bytes);
    }
  }
#endif
};

}  // namespace

MemorySource& host_memory() {
  // Never destroyed: tensors in static storage may outlive it otherwise.
  static HostMemory& memory = *new HostMemory;
  return memory;
}

}  // namespace lamina
