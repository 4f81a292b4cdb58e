#ifndef ESCROW_EXAMPLES_JSON_H_
#define ESCROW_EXAMPLES_JSON_H_

#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace escrow::examples {

// Writes JSON (RFC 8259), one member or element a line. The caller sees to it
// that begins and ends match, and that the members of an object have keys.
//
//   JsonWriter json;
//   json.BeginObject();
//   json.Member("name", "read");
//   json.BeginArray("sizes");
//   json.Element(4096);
//   json.EndArray();
//   json.EndObject();
//   std::puts(json.text().c_str());
class JsonWriter {
 public:
  // The whole text, or an element of an array.
  void BeginObject() { Begin('{'); }
  void BeginObject(std::string_view key) { Begin(key, '{'); }
  void EndObject() { End('}'); }

  void BeginArray(std::string_view key) { Begin(key, '['); }
  void EndArray() { End(']'); }

  // `value` is a string (in UTF-8), a bool, an integer, or an optional of one,
  // which is null when it is empty.
  template <typename T>
  void Member(std::string_view key, const T& value) {
    Key(key);
    Value(value);
  }
  template <typename T>
  void Element(const T& value) {
    NextLine();
    Value(value);
  }

  const std::string& text() const { return text_; }

 private:
  void NextLine();
  void Key(std::string_view key);
  void Begin(char bracket);
  void Begin(std::string_view key, char bracket);
  void Open(char bracket);
  void End(char bracket);

  void Value(std::string_view value);
  void Value(const char* value) { Value(std::string_view(value)); }
  void Value(const std::string& value) { Value(std::string_view(value)); }
  template <std::integral T>
  void Value(T value) {
    text_ += std::to_string(value);
  }
  void Value(bool value) { text_ += value ? "true" : "false"; }
  template <typename T>
  void Value(const std::optional<T>& value) {
    if (value) {
      Value(*value);
    } else {
      text_ += "null";
    }
  }

  std::string text_;
  std::size_t depth_ = 0;
  bool first_ = true;  // of the object or array
};

}  // namespace escrow::examples

#endif  // ESCROW_EXAMPLES_JSON_H_
