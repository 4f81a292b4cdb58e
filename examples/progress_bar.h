#ifndef ESCROW_EXAMPLES_PROGRESS_BAR_H_
#define ESCROW_EXAMPLES_PROGRESS_BAR_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

// How far a long piece of work has got, on standard error.

namespace escrow::examples {

// One line of at most `width` characters: what is being done, a bar, percent,
// rate and the time that remains; as much of it as fits. Percent comes first.
std::string FormatProgress(std::size_t width, std::string_view doing,
                           std::uint64_t done, std::uint64_t total,
                           std::chrono::duration<double> elapsed);

// On a terminal, a line that is drawn again and again in place, ten times a
// second at most. Elsewhere, lines one below the other, one a second.
class ProgressBar {
 public:
  explicit ProgressBar(int file);
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  ~ProgressBar() { Erase(); }

  // A new `doing` is new work: the last line of the old one stays.
  void Show(std::string_view doing, std::uint64_t done, std::uint64_t total);

  // Leaves the last line as it is at the end of the work.
  void Complete();

  // Takes the line away, to make room for an error message.
  void Erase();

 private:
  using Clock = std::chrono::steady_clock;

  void Draw(Clock::time_point now);

  int file_;
  bool is_terminal_;
  bool drawn_ = false;
  std::string doing_;
  std::uint64_t done_ = 0;
  std::uint64_t total_ = 0;
  Clock::time_point start_;
  Clock::time_point last_;
};

}  // namespace escrow::examples

#endif  // ESCROW_EXAMPLES_PROGRESS_BAR_H_
