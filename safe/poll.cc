#include "escrow/safe/poll.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <cerrno>
#include <cstdint>
#include <expected>
#include <system_error>
#include <utility>

#include "escrow/ownership/descriptor.h"
#include "escrow/raw/error.h"
#include "escrow/safe/result.h"

namespace escrow::safe {

std::uint32_t internal::BitsOf(Interest interest) noexcept {
  std::uint32_t bits = 0;
  if (Includes(interest, Interest::kReadable)) bits |= EPOLLIN | EPOLLRDHUP;
  if (Includes(interest, Interest::kWritable)) bits |= EPOLLOUT;
  if (Includes(interest, Interest::kPriority)) bits |= EPOLLPRI;
  return bits;
}

bool Event::is_readable() const noexcept {
  return (bits_ & (EPOLLIN | EPOLLPRI)) != 0;
}

bool Event::is_writable() const noexcept { return (bits_ & EPOLLOUT) != 0; }

bool Event::is_priority() const noexcept { return (bits_ & EPOLLPRI) != 0; }

bool Event::is_error() const noexcept { return (bits_ & EPOLLERR) != 0; }

bool Event::is_read_closed() const noexcept {
  return (bits_ & EPOLLHUP) != 0 ||
         ((bits_ & EPOLLIN) != 0 && (bits_ & EPOLLRDHUP) != 0);
}

bool Event::is_write_closed() const noexcept {
  // Pipes without a reader say so by an error, alone or with EPOLLOUT.
  return (bits_ & EPOLLHUP) != 0 ||
         ((bits_ & EPOLLOUT) != 0 && (bits_ & EPOLLERR) != 0) ||
         bits_ == EPOLLERR;
}

Result<void> Source::Register(const Registry& registry, Token token,
                              Interest interest) {
  if (registry_) {
    return std::unexpected(
        std::error_code(EEXIST, raw::CategoryOf<"Source::Register">()));
  }
  auto registered = registry.Register(file_.number(), token, interest);
  if (registered) registry_ = registry;
  return registered;
}

Result<void> Source::Reregister(Token token, Interest interest) {
  if (!registry_) {
    return std::unexpected(
        std::error_code(ENOENT, raw::CategoryOf<"Source::Reregister">()));
  }
  return registry_->Reregister(file_.number(), token, interest);
}

Result<void> Source::Deregister() {
  if (!registry_) {
    return std::unexpected(
        std::error_code(ENOENT, raw::CategoryOf<"Source::Deregister">()));
  }
  return std::exchange(registry_, std::nullopt)->Deregister(file_.number());
}

Result<Waker> Waker::Create(const Registry& registry, Token token) {
  const int event = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (event < 0) return std::unexpected(raw::LastError<"eventfd">());
  Source source(ownership::Descriptor::Adopt(event));
  if (const auto registered =
          source.Register(registry, token, Interest::kReadable);
      !registered) {
    return std::unexpected(registered.error());
  }
  return Waker(std::move(source));
}

Result<void> Waker::Wake() const {
  const int event = event_.file().number();
  // Nobody reads it: that it changes is what is told. So it may be full.
  while (::eventfd_write(event, 1) != 0) {
    eventfd_t count;
    if (errno != EAGAIN) return std::unexpected(raw::LastError<"write">());
    (void)::eventfd_read(event, &count);
  }
  return {};
}

}  // namespace escrow::safe
