// SPDX-License-Identifier: MIT
// Ctrl-C, SIGTERM and SIGHUP as a question that a loop asks between steps. A second signal ends
// the process. SIGHUP stays ignored where it is (nohup).
#pragma once

#include <csignal>

namespace lamina::gpt {

/// Listens while it lives; one at a time.
class Interrupt {
 public:
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  /// The signal that arrived, or 0.
  int signal() const;

 private:
  struct sigaction previous_int_ {};

  struct sigaction previous_term_ {};

  struct sigaction previous_hup_ {};
};

}  // namespace lamina::gpt
