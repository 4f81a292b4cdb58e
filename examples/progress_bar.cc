#include "escrow/examples/progress_bar.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

#include "escrow/examples/byte_size.h"

namespace escrow::examples {
namespace {

std::string FormatDuration(double seconds) {
  char text[32];
  const double minutes = std::floor(seconds / 60);
  if (minutes < 60) {
    std::snprintf(text, sizeof(text), "%.0f:%02.0f", minutes,
                  std::floor(seconds - minutes * 60));
  } else if (minutes < 100 * 60) {
    const double hours = std::floor(minutes / 60);
    std::snprintf(text, sizeof(text), "%.0fh%02.0f", hours,
                  minutes - hours * 60);
  } else {
    return "days";
  }
  return text;
}

std::string Right(std::string text, std::size_t width) {
  if (text.size() < width) text.insert(0, width - text.size(), ' ');
  return text;
}

std::size_t TerminalWidth(int file) {
  winsize size = {};
  return ::ioctl(file, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col
                                                                  : 80;
}

}  // namespace

std::string FormatProgress(std::size_t width, std::string_view doing,
                           std::uint64_t done, std::uint64_t total,
                           std::chrono::duration<double> elapsed) {
  done = std::min(done, total);
  const double fraction =
      total == 0 ? 1 : static_cast<double>(done) / static_cast<double>(total);
  const double rate =
      elapsed.count() > 0 ? static_cast<double>(done) / elapsed.count() : 0;
  char percent[8];
  // Rounded down: 100% is when nothing is left.
  std::snprintf(percent, sizeof(percent), "%3.0f%%",
                std::floor(fraction * 100));
  const std::string speed =
      Right(rate > 0 ? FormatByteSize(rate) + "/s" : "-", 10);
  const double left = static_cast<double>(total - done);
  const std::string remaining =
      Right(done == total ? FormatDuration(elapsed.count())
            : rate > 0    ? FormatDuration(left / rate)
                          : "-:--",
            5);

  std::string line;
  const auto add = [&](const std::string& part) {
    const std::size_t space = line.empty() ? 0 : 1;
    if (line.size() + space + part.size() > width) return;
    line.append(space, ' ').append(part);
  };
  // From the most to the least important, which is also the order to the eye.
  add(percent);
  add(speed);
  add(remaining);
  add(Right(std::string(doing), 8));

  constexpr std::size_t kFrame = 3;  // "[] "
  constexpr std::size_t kShortest = 3;
  if (line.size() + kFrame + kShortest <= width) {
    const std::size_t cells =
        std::min<std::size_t>(width - line.size() - kFrame, 60);
    const auto full =
        static_cast<std::size_t>(fraction * static_cast<double>(cells));
    line = "[" + std::string(full, '#') + std::string(cells - full, '.') +
           "] " + line;
  }
  return line;
}

ProgressBar::ProgressBar(int file)
    : file_(file), is_terminal_(::isatty(file) == 1) {}

void ProgressBar::Show(std::string_view doing, std::uint64_t done,
                       std::uint64_t total) {
  const Clock::time_point now = Clock::now();
  if (doing != doing_) {
    if (drawn_) Complete();
    doing_ = doing;
    start_ = last_ = now;
    done_ = done;
    total_ = total;
    return;
  }
  done_ = done;
  total_ = total;
  const auto pause = is_terminal_ ? std::chrono::milliseconds(100)
                                  : std::chrono::milliseconds(1000);
  if (now - last_ < pause) return;
  last_ = now;
  Draw(now);
}

void ProgressBar::Draw(Clock::time_point now) {
  // Some terminals go to the next line behind the last column, and all do when
  // they show ^C there.
  constexpr std::size_t kFree = 3;
  const std::size_t width =
      is_terminal_ ? std::max(TerminalWidth(file_), kFree) - kFree : 79;
  std::string text = FormatProgress(width, doing_, done_, total_, now - start_);
  text = is_terminal_ ? "\r\x1b[K" + text : text + "\n";
  drawn_ = true;
  // Nobody is there to be told that it cannot be shown.
  (void)!::write(file_, text.data(), text.size());
}

void ProgressBar::Complete() {
  if (doing_.empty()) return;
  Draw(Clock::now());
  if (is_terminal_) (void)!::write(file_, "\n", 1);
  drawn_ = false;
  doing_.clear();
}

void ProgressBar::Erase() {
  if (drawn_ && is_terminal_) (void)!::write(file_, "\r\x1b[K", 4);
  drawn_ = false;
  doing_.clear();
}

}  // namespace escrow::examples
