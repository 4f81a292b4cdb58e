// The form of reports, and how they end a program.

#include "escrow/sim/report.h"

#include <gtest/gtest.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

namespace escrow::sim {
namespace {

constexpr Mistake kMistake = {"io-uring-some-mistake", "something is wrong"};

__attribute__((noinline)) Owner Submitted() {
  Owner owner = {.name = "READ", .user_data = 0x2a, .submitted = Stack::Here()};
  return owner;
}

TEST(ReportTest, HasTheFormOfAddressSanitizer) {
  const Owner owner = Submitted();
  const Owner other = {.name = "WRITE", .user_data = 1, .submitted = {}};
  int data = 0;
  EXPECT_EXIT(Report(kMistake, &data, 4, &owner, &other),
              ::testing::ExitedWithCode(1),
              "^====*\n"
              "==[0-9]+==ERROR: AddressSanitizer: io-uring-some-mistake on "
              "address 0x[0-9a-f]+\n"
              "escrow sim: something is wrong\n"
              "    #0 0x[0-9a-f]+ .*\n"
              "(.|\n)*"
              "READ .user_data 0x2a., which uses 4 bytes at 0x[0-9a-f]+, was "
              "submitted here:\n"
              "    #0 0x[0-9a-f]+ .*\n"
              "(.|\n)*"
              "WRITE .user_data 0x1. was submitted here:\n"
              "    <unknown>\n"
              "(.|\n)*"
              "SUMMARY: AddressSanitizer: io-uring-some-mistake .*\n$");
}

TEST(ReportTest, MayKnowNothingMore) {
  EXPECT_EXIT(Report(kMistake, nullptr, 0, nullptr),
              ::testing::ExitedWithCode(1),
              "ERROR: AddressSanitizer: io-uring-some-mistake\n"
              "escrow sim: something is wrong\n");
}

TEST(ReportTest, EndsAsTheOptionsSay) {
  const auto with = [](const char* options) {
    ::setenv("ASAN_OPTIONS", options, 1);
    Report(kMistake, nullptr, 0, nullptr);
  };
  EXPECT_EXIT(with("exitcode=7"), ::testing::ExitedWithCode(7), "");
  EXPECT_EXIT(with("symbolize=0:exitcode=8,x=y"), ::testing::ExitedWithCode(8),
              "");
  EXPECT_EXIT(with("noexitcode=9"), ::testing::ExitedWithCode(1), "");
  EXPECT_EXIT(with("abort_on_error=1"), ::testing::KilledBySignal(SIGABRT), "");
  EXPECT_EXIT(with("exitcode=7:abort_on_error=true"),
              ::testing::KilledBySignal(SIGABRT), "");
  EXPECT_EXIT(with("abort_on_error=0"), ::testing::ExitedWithCode(1), "");
}

TEST(ReportTest, CallsTheHookOnce) {
  EXPECT_EXIT(
      {
        OnReport(+[]() noexcept { std::fputs("kept the schedule\n", stderr); });
        CallOnReport();
        Report(kMistake, nullptr, 0, nullptr);
      },
      ::testing::ExitedWithCode(1), "^kept the schedule\n====");
  EXPECT_EXIT(
      {
        OnReport(+[]() noexcept { std::fputs("kept the schedule\n", stderr); });
        Report(kMistake, nullptr, 0, nullptr);
      },
      ::testing::ExitedWithCode(1), "kept the schedule\nSUMMARY");
}

TEST(StackTest, BeginsWhereItIsTaken) {
  const Stack stack = Stack::Here();
  ASSERT_GT(stack.depth, 1U);
  // This function's frame: whatever it calls next returns into it, too.
  const Stack again = Stack::Here();
  EXPECT_NE(stack.frames[0], again.frames[0]);
  ASSERT_EQ(stack.depth, again.depth);
  for (std::size_t i = 1; i < stack.depth; ++i) {
    EXPECT_EQ(stack.frames[i], again.frames[i]);
  }
}

__attribute__((noinline)) Stack Inner() {
  const CalledFrom called_from(__builtin_return_address(0),
                               CalledFrom::How::kCall);
  return Stack::Here();
}

TEST(StackTest, BeginsWhereTheProgramCalled) {
  const Stack stack = Inner();
  const Stack here = Stack::Here();
  ASSERT_EQ(stack.depth, here.depth);
  EXPECT_EQ(stack.frames[1], here.frames[1]);
}

TEST(StackTest, OfAnotherThread) {
  std::thread([] { EXPECT_GT(Stack::Here().depth, 0U); }).join();
}

__attribute__((noinline)) Stack Deep(int depth) {
  if (depth == 0) return Stack::Here();
  Stack stack = Deep(depth - 1);
  return stack.depth > 0 ? stack : Stack();
}

TEST(StackTest, EndsWhereThereIsNoMoreRoom) {
  EXPECT_EQ(Deep(100).depth, Stack::kDepth);
}

}  // namespace
}  // namespace escrow::sim
