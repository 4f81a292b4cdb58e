#include "escrow/ownership/control_data.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>

#include "escrow/ownership/check.h"
#include "escrow/ownership/descriptor.h"

namespace escrow::ownership {
namespace {

constexpr int kPidfd = 4;      // SCM_PIDFD, which older headers lack
constexpr int kNoNumber = -1;  // in the place of a descriptor that was taken

// The first message of a chain, if there is one.
bool HeadOf(std::span<const std::byte> chain, cmsghdr& head) noexcept {
  if (chain.size() < sizeof(head)) return false;
  std::memcpy(&head, chain.data(), sizeof(head));
  return head.cmsg_len >= sizeof(head) && head.cmsg_len <= chain.size();
}

template <typename Byte>
std::span<Byte> DataOf(std::span<Byte> chain, const cmsghdr& head) noexcept {
  return chain.subspan(CMSG_LEN(0), head.cmsg_len - CMSG_LEN(0));
}

// What follows the first message.
template <typename Byte>
std::span<Byte> Behind(std::span<Byte> chain, const cmsghdr& head) noexcept {
  return chain.subspan(std::min(CMSG_ALIGN(head.cmsg_len), chain.size()));
}

bool HasDescriptors(const cmsghdr& head) noexcept {
  return head.cmsg_level == SOL_SOCKET &&
         (head.cmsg_type == SCM_RIGHTS || head.cmsg_type == kPidfd);
}

// Takes the next descriptor out of the messages that `wanted` tells.
template <typename Wanted>
int NextNumber(std::span<std::byte> chain, Wanted wanted) noexcept {
  cmsghdr head;
  for (; HeadOf(chain, head); chain = Behind(chain, head)) {
    if (!HasDescriptors(head) || !wanted(head)) continue;
    std::span<std::byte> data = DataOf(chain, head);
    for (; data.size() >= sizeof(int); data = data.subspan(sizeof(int))) {
      int number = kNoNumber;
      std::memcpy(&number, data.data(), sizeof(number));
      if (number == kNoNumber) continue;
      std::memcpy(data.data(), &kNoNumber, sizeof(kNoNumber));
      return number;
    }
  }
  return kNoNumber;
}

}  // namespace

// Sending.

void ControlData::Pass(const Descriptor& descriptor) {
  const int number = descriptor.number();
  Append(SOL_SOCKET, SCM_RIGHTS, std::as_bytes(std::span(&number, 1)));
  content_->shares.push_back(descriptor.Share());
}

void ControlData::Add(int level, int type, std::span<const std::byte> data) {
  ESCROW_CHECK(level != SOL_SOCKET || type != SCM_RIGHTS,
               "descriptors are passed with ControlData::Pass()");
  Append(level, type, data);
}

void ControlData::Append(int level, int type, std::span<const std::byte> data) {
  if (content_ == nullptr) content_ = std::make_unique<Content>();
  const cmsghdr head = {.cmsg_len = CMSG_LEN(data.size()),
                        .cmsg_level = level,
                        .cmsg_type = type};
  const std::size_t start = content_->bytes.size();
  content_->bytes.resize(start + CMSG_SPACE(data.size()));
  std::byte* const place = content_->bytes.data() + start;
  std::memcpy(place, &head, sizeof(head));
  if (!data.empty()) std::memcpy(place + CMSG_LEN(0), data.data(), data.size());
}

void ControlData::Clear() noexcept {
  if (content_ == nullptr) return;
  content_->bytes.clear();
  content_->shares.clear();
}

// Receiving.

ControlMessage ControlRoom::Iterator::operator*() const noexcept {
  cmsghdr head;
  ESCROW_CHECK(HeadOf(left_, head), "a control message beyond the last one");
  return {.level = head.cmsg_level,
          .type = head.cmsg_type,
          .data = DataOf(left_, head)};
}

ControlRoom::Iterator& ControlRoom::Iterator::operator++() noexcept {
  cmsghdr head;
  ESCROW_CHECK(HeadOf(left_, head), "a control message beyond the last one");
  left_ = Behind(left_, head);
  SkipDescriptors();
  return *this;
}

void ControlRoom::Iterator::SkipDescriptors() noexcept {
  cmsghdr head;
  while (HeadOf(left_, head)) {
    if (!HasDescriptors(head)) return;
    left_ = Behind(left_, head);
  }
  left_ = {};
}

Descriptor ControlRoom::TakeOf(int type) {
  const int number = NextNumber(
      All(), [type](const cmsghdr& head) { return head.cmsg_type == type; });
  return number == kNoNumber ? Descriptor() : Descriptor::Adopt(number);
}

Descriptor ControlRoom::TakeDescriptor() { return TakeOf(SCM_RIGHTS); }

Descriptor ControlRoom::TakePidfd() { return TakeOf(kPidfd); }

void ControlRoom::CloseDescriptors() noexcept {
  const auto any = [](const cmsghdr&) { return true; };
  for (int number; (number = NextNumber(All(), any)) != kNoNumber;) {
    ::close(number);
  }
}

void ControlRoom::Clear() noexcept {
  CloseDescriptors();
  std::ranges::fill(All(), std::byte());
}

}  // namespace escrow::ownership
