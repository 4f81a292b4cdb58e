// The raw code that the README shows.

#include <fcntl.h>
#include <liburing.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <string_view>
#include <system_error>

#include "escrow/raw/contract.h"
#include "escrow/raw/error.h"
#include "escrow/raw/ops.h"
#include "escrow/raw/ring.h"

namespace {

namespace raw = escrow::raw;

std::error_code WriteAndSync(raw::Ring& ring, int fd, std::string_view text) {
  // Both or neither, linked: the sync comes after the write.
  auto chain = ring.Reserve(2);
  if (!chain) return std::make_error_code(std::errc::no_buffer_space);
  chain.Push(raw::Write{.fd = fd,
                        .buffer = text.data(),
                        .length = static_cast<std::uint32_t>(text.size())},
             /*user_data=*/1, IOSQE_IO_LINK);
  chain.Push(raw::Fsync{.fd = fd}, /*user_data=*/2);
  chain.Commit();

  if (auto entered = ring.SubmitAndWait(2); !entered) return entered.error();
  int error = 0;
  const auto completions = ring.completions();
  for (const io_uring_cqe& cqe : completions) {
    if (cqe.res < 0 && cqe.res != -ECANCELED) error = -cqe.res;
  }
  ring.Advance(completions.entries());
  return {error, std::system_category()};
}

// What the man page says is enough, the submit, is not: a fact to build on.
static_assert(raw::HeldUntil<raw::Statx>() == raw::Until::kCompletion);

}  // namespace

int main() {
  auto ring = raw::Ring::Create({.entries = 8});
  if (!ring) {
    std::fprintf(stderr, "%s\n", ring.error().message().c_str());
    return 1;
  }
  const int fd = open("/tmp", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
  if (fd < 0) {
    std::perror("/tmp");
    return 1;
  }
  const std::error_code error = WriteAndSync(*ring, fd, "hello, ring\n");
  if (error) std::fprintf(stderr, "%s\n", error.message().c_str());
  close(fd);
  return error ? 1 : 0;
}
