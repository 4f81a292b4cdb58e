#include "escrow/examples/json.h"

#include <cstdio>
#include <string_view>

namespace escrow::examples {

void JsonWriter::NextLine() {
  if (!first_) text_ += ',';
  first_ = false;
  if (depth_ == 0) return;
  text_ += '\n';
  text_.append(2 * depth_, ' ');
}

void JsonWriter::Key(std::string_view key) {
  NextLine();
  Value(key);
  text_ += ": ";
}

void JsonWriter::Begin(char bracket) {
  NextLine();
  Open(bracket);
}

void JsonWriter::Begin(std::string_view key, char bracket) {
  Key(key);
  Open(bracket);
}

void JsonWriter::Open(char bracket) {
  text_ += bracket;
  ++depth_;
  first_ = true;
}

void JsonWriter::End(char bracket) {
  --depth_;
  if (!first_) {
    text_ += '\n';
    text_.append(2 * depth_, ' ');
  }
  text_ += bracket;
  first_ = false;
}

void JsonWriter::Value(std::string_view value) {
  text_ += '"';
  for (const char c : value) {
    if (c == '"' || c == '\\') {
      text_ += '\\';
      text_ += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof(escape), "\\u%04x",
                    static_cast<unsigned>(c));
      text_ += escape;
    } else {
      text_ += c;
    }
  }
  text_ += '"';
}

}  // namespace escrow::examples
