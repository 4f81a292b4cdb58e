// What the kernel refuses to take in at one moment and takes in at the next
// one, which only a simulated kernel does when it is told to.

#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <system_error>
#include <utility>

#include "escrow/ownership/descriptor.h"
#include "escrow/safe/file_ops.h"
#include "escrow/safe/ring.h"
#include "escrow/sim/choices.h"
#include "escrow/sim/kernel.h"
#include "tests/support.h"

namespace escrow::safe {
namespace {

using ownership::Descriptor;

// By how many submits in a row are refused. With one more, the wait's own is,
// which takes the read back.
class SafeRefusals : public ::testing::TestWithParam<int> {
 protected:
  // From the next submit on.
  static void Refuse(int submits) {
    const sim::Schedule schedule(static_cast<std::size_t>(submits), 1);
    sim::Reset({.choices = sim::Choices::Following(schedule)});
  }
};

// The read never ends by itself, and fills the queue with what is linked to it:
// the cancellation has no room until both are submitted.
TEST_P(SafeRefusals, ACancellationHasItsRoomBeforeTheWait) {
  Refuse(GetParam());
  const testing::Pipe numbers;
  const Descriptor from = Descriptor::Adopt(numbers.read_end);
  const Descriptor to = Descriptor::Adopt(numbers.write_end);
  auto ring = Ring::Create({.entries = 2});
  ASSERT_TRUE(ring);
  auto [read, next] =
      ring->Start(Chain(Read<std::string>{.file = from, .buffer = "room"},
                        Read<std::string>{.file = from, .buffer = "next"}));
  const auto [size, buffer] = ring->CancelAndWait(std::move(read));
  EXPECT_EQ(size.error(), std::errc::operation_canceled);
  EXPECT_EQ(buffer, "room");
  EXPECT_EQ(ring->Wait(std::move(next)).result.error(),
            std::errc::operation_canceled);
}

INSTANTIATE_TEST_SUITE_P(Submits, SafeRefusals, ::testing::Range(0, 3));

}  // namespace
}  // namespace escrow::safe
