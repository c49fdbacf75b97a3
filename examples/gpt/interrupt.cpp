// SPDX-License-Identifier: MIT
#include "examples/gpt/interrupt.h"

namespace lamina::gpt {

namespace {

volatile std::sig_atomic_t received = 0;

/// The second signal ends the process, of whichever kind it is.
void remember(int number) {
  if (received != 0) {
    (void)std::signal(number, SIG_DFL);
    (void)raise(number);
  }
  received = number;
}

}  // namespace

Interrupt::Interrupt() {
  received = 0;

  struct sigaction action {};

  action.sa_handler = remember;
  sigaction(SIGINT, &action, &previous_int_);
  sigaction(SIGTERM, &action, &previous_term_);
  sigaction(SIGHUP, nullptr, &previous_hup_);
  if (previous_hup_.sa_handler != SIG_IGN) sigaction(SIGHUP, &action, nullptr);
}

Interrupt::~Interrupt() {
  sigaction(SIGINT, &previous_int_, nullptr);
  sigaction(SIGTERM, &previous_term_, nullptr);
  sigaction(SIGHUP, &previous_hup_, nullptr);
}

int Interrupt::signal() const {
  return received;
}

}  // namespace lamina::gpt
