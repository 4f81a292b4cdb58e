#include <gtest/gtest.h>
#include <liburing.h>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "escrow/raw/all_ops.h"
#include "escrow/raw/contract.h"
#include "escrow/raw/op.h"
#include "escrow/raw/ops.h"
#include "tests/aggregate.h"
#include "tests/raw_op_support.h"

// Whether the operation types are complete and consistent: among themselves,
// with the kernel's opcodes, and with what their headers say.

namespace escrow::raw {
namespace {

using testing::FieldTypes;
using testing::kFewestInitializers;
using testing::TypeList;

// What a field's type says.
struct FieldFacts {
  bool required;    // it has no value without an initializer
  bool is_pointer;  // a bare one

  // Set if the type says until when the kernel uses what it refers to.
  bool classified = false;
  Access access = {};
  Until until = {};
  Regions behind = {};
  bool to_memory = false;  // a KernelPtr
  bool to_const = false;   // to const memory

  bool is_destination = false;
  bool is_big_payload = false;
};

// What the compiler knows of an operation type.
struct OpFacts {
  std::string type_name;
  OpInfo info;
  Regions regions;
  std::vector<FieldFacts> fields;
  std::size_t fewest_initializers;
};

template <typename Field>
FieldFacts FactsOfField() {
  FieldFacts facts = {
      .required = !std::is_default_constructible_v<Field>,
      .is_pointer = std::is_pointer_v<Field>,
      .is_destination = std::is_same_v<Field, FileDestination>,
      .is_big_payload = std::is_same_v<Field, CommandBytes<80>>,
  };
  if constexpr (requires { Field::kUntil; }) {
    facts.classified = true;
    facts.access = Field::kAccess;
    facts.until = Field::kUntil;
    facts.behind = Field::kBehind;
  }
  if constexpr (requires(const Field& field) { field.get(); }) {
    facts.to_memory = true;
    facts.to_const = std::is_const_v<
        std::remove_pointer_t<decltype(std::declval<const Field&>().get())>>;
  }
  return facts;
}

template <typename... Fields>
std::vector<FieldFacts> FactsOfFields(TypeList<Fields...>) {
  return {FactsOfField<Fields>()...};
}

template <typename Op>
std::string TypeName() {
  const std::string signature = __PRETTY_FUNCTION__;
  // g++: "... [with Op = escrow::raw::Nop; ...]", clang++: "... [Op = ...]".
  static const std::regex kName(R"(Op = (?:\w+::)*(\w+)[;\]])");
  std::smatch match;
  return std::regex_search(signature, match, kName) ? match[1].str()
                                                    : signature;
}

// In the order of AllOps.
std::vector<OpFacts> Facts() {
  std::vector<OpFacts> facts;
  ForEachOp([&]<typename Op>() {
    static_assert(std::is_aggregate_v<Op>);
    static_assert(std::is_trivially_copyable_v<Op>);
    static_assert(std::is_standard_layout_v<Op>);
    static_assert(requires(const Op& op, io_uring_sqe* sqe) {
      { op.Prepare(sqe) }
      noexcept;
    });
    facts.push_back({.type_name = TypeName<Op>(),
                     .info = Op::kInfo,
                     .regions = RegionsOf<Op>(),
                     .fields = FactsOfFields(FieldTypes<Op>()),
                     .fewest_initializers = kFewestInitializers<Op>});
  });
  return facts;
}

// What is written in the header of one operation type.
struct Field {
  std::string name;
  bool has_default;
};
struct Source {
  std::string comment;  // above it
  std::vector<Field> fields;
  std::vector<std::string> regions;  // the names of kRegions
};

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file) << path;
  std::ostringstream content;
  content << file.rdbuf();
  return content.str();
}

std::vector<Field> ParseFields(std::string_view body) {
  // The fields come first.
  std::string text(body.substr(0, body.find("static constexpr")));
  text = std::regex_replace(text, std::regex("//[^\n]*"), "");
  std::vector<Field> fields;
  static const std::regex kDeclaration(
      R"(\s*[^;=]*[\w>]\s+(\w+)\s*(=[^;]*)?;)");
  for (std::sregex_iterator it(text.begin(), text.end(), kDeclaration), end;
       it != end; ++it) {
    fields.push_back({(*it)[1], (*it)[2].matched});
  }
  return fields;
}

// By name.
std::map<std::string, Source> ParseHeaders() {
  std::map<std::string, Source> sources;
  for (const char* family :
       {"file", "path", "ring", "rw", "socket", "transfer", "wait"}) {
    const std::string text = ReadFile(std::string("raw/ops_") + family + ".h");
    // A comment, and the struct under it up to the brace in the first column.
    static const std::regex kStruct(
        R"(((?:\n//[^\n]*)*)\nstruct (\w+) \{\n((?:[^}\n][^\n]*)?(?:\n(?!\};)[^\n]*)*)\n\};)");
    for (std::sregex_iterator it(text.begin(), text.end(), kStruct), end;
         it != end; ++it) {
      const std::string name = (*it)[2];
      const std::string body = (*it)[3];
      if (body.find("OpInfo kInfo") == std::string::npos) continue;
      Source source;
      // One line, for a search across the line breaks.
      source.comment =
          std::regex_replace((*it)[1].str(), std::regex("\n//\\s*"), " ");
      source.fields = ParseFields(body);
      static const std::regex kRegion(
          R"x(RegionOf\(\s*"(\w+)",\s*&(\w+)::(\w+))x");
      for (std::sregex_iterator region(body.begin(), body.end(), kRegion);
           region != end; ++region) {
        EXPECT_EQ((*region)[1], (*region)[3]) << name;
        EXPECT_EQ((*region)[2], name);
        source.regions.push_back((*region)[1]);
      }
      sources[name] = source;
    }
  }
  return sources;
}

std::string Join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) {
    if (!text.empty()) text += ' ';
    text += word;
  }
  return text;
}

bool HasClass(Regions regions, Until until) {
  return std::any_of(regions.begin(), regions.end(), [&](const Region& region) {
    return region.until == until || HasClass(region.behind, until);
  });
}

TEST(RawAllOps, CoverTheOpcodes) {
  std::set<int> covered;
  for (const OpFacts& op : Facts()) covered.insert(op.info.opcode);
  for (int opcode = 0; opcode < IORING_OP_LAST; ++opcode) {
    EXPECT_TRUE(covered.contains(opcode)) << "no type for opcode " << opcode;
  }
  EXPECT_EQ(covered.size(), std::size_t{IORING_OP_LAST});
}

TEST(RawAllOps, HaveATestOfTheirBytes) {
  EXPECT_EQ(Join(OpsWithoutTest("RawBytes")), "");
}

TEST(RawAllOps, AreListedOnceAndInOrder) {
  std::set<std::string> names;
  int last = 0;
  for (const OpFacts& op : Facts()) {
    EXPECT_TRUE(names.insert(op.type_name).second) << op.type_name;
    EXPECT_GE(op.info.opcode, last) << op.type_name;
    last = op.info.opcode;
  }
}

TEST(RawAllOps, AreThoseOfTheHeaders) {
  std::set<std::string> listed;
  for (const OpFacts& op : Facts()) listed.insert(op.type_name);
  std::set<std::string> written;
  for (const auto& [name, source] : ParseHeaders()) written.insert(name);
  EXPECT_EQ(listed, written);
}

TEST(RawAllOps, AreNamedAsTheyAreCalled) {
  for (const OpFacts& op : Facts()) EXPECT_EQ(op.info.name, op.type_name);
}

// The contract has a row for every field that refers to something, and no
// other: an operation without regions has no such field.
TEST(RawAllOps, HaveTheirFieldsInTheContract) {
  auto sources = ParseHeaders();
  for (const OpFacts& op : Facts()) {
    SCOPED_TRACE(op.type_name);
    const Source& source = sources[op.type_name];
    ASSERT_EQ(source.fields.size(), op.fields.size());
    std::vector<Region> expected;
    for (std::size_t i = 0; i < op.fields.size(); ++i) {
      const FieldFacts& field = op.fields[i];
      EXPECT_FALSE(field.is_pointer) << source.fields[i].name << ": no class";
      if (!field.classified) continue;
      expected.push_back({source.fields[i].name.c_str(), field.access,
                          field.until, field.behind});
    }
    ASSERT_EQ(op.regions.size(), expected.size());
    ASSERT_EQ(source.regions.size(), expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const Region& region = op.regions.begin()[i];
      EXPECT_STREQ(region.name, expected[i].name);
      EXPECT_EQ(region.access, expected[i].access) << region.name;
      EXPECT_EQ(region.until, expected[i].until) << region.name;
      EXPECT_EQ(region.behind.begin(), expected[i].behind.begin())
          << region.name;
      EXPECT_EQ(region.behind.size(), expected[i].behind.size()) << region.name;
      // The name and the field of RegionOf(), which the compiler cannot match.
      EXPECT_EQ(region.name, source.regions[i]);
    }
  }
}

TEST(RawAllOps, HaveConsistentContracts) {
  for (const OpFacts& op : Facts()) {
    SCOPED_TRACE(op.type_name);
    const Until ends = op.info.ends;
    EXPECT_TRUE(ends == Until::kCompletion || ends == Until::kLastCompletion ||
                ends == Until::kNotification);
    // Memory is used until a completion that there is.
    if (HasClass(op.regions, Until::kLastCompletion)) {
      EXPECT_EQ(ends, Until::kLastCompletion);
    }
    EXPECT_EQ(HasClass(op.regions, Until::kNotification),
              ends == Until::kNotification);
    for (const FieldFacts& field : op.fields) {
      if (!field.classified) continue;
      EXPECT_EQ(field.access == Access::kHandle, field.until == Until::kIssued);
      if (field.to_memory) {
        EXPECT_NE(field.access, Access::kHandle);
      }
      if (field.to_const) {
        EXPECT_NE(field.access, Access::kWrite);
        EXPECT_NE(field.access, Access::kReadWrite);
      }
    }
  }
}

TEST(RawAllOps, HaveConsistentFacts) {
  static const std::regex kVersion(R"(\d+\.\d+)");
  static const std::regex kManual(R"(io_uring_\w+\([237]\))");
  for (const OpFacts& op : Facts()) {
    SCOPED_TRACE(op.type_name);
    EXPECT_STRNE(op.info.call, "");
    EXPECT_TRUE(std::regex_match(op.info.since, kVersion)) << op.info.since;
    EXPECT_TRUE(std::regex_match(op.info.manual, kManual)) << op.info.manual;
    // Found elsewhere than in a FileDestination or a big payload.
    bool owns_file =
        op.type_name == "FixedFdInstall" || op.type_name == "FilesUpdate";
    bool is_big = op.type_name == "Nop128";
    for (const FieldFacts& field : op.fields) {
      owns_file |= field.is_destination;
      is_big |= field.is_big_payload;
    }
    EXPECT_EQ(op.info.result_owns_file, owns_file);
    EXPECT_EQ(op.info.sqe128, is_big);
  }
}

TEST(RawAllOps, SayInTheirCommentsWhichKernelHasThem) {
  auto sources = ParseHeaders();
  for (const OpFacts& op : Facts()) {
    const std::string& comment = sources[op.type_name].comment;
    const std::string since = std::string("Linux ") + op.info.since;
    const std::size_t found = comment.find(since);
    ASSERT_NE(found, std::string::npos) << op.type_name << ":" << comment;
    // 5.1 is not 5.15.
    const char next = (comment + ' ')[found + since.size()];
    EXPECT_FALSE(next >= '0' && next <= '9') << op.type_name << ":" << comment;
  }
}

// The fields that an operation cannot do without: leaving one out does not
// compile.
struct RequiredFields {
  const char* op;
  const char* fields;
};
constexpr RequiredFields kRequired[] = {
    // ops_rw.h
    {"Read", "fd buffer length"},
    {"Write", "fd buffer length"},
    {"Readv", "fd vectors count"},
    {"Writev", "fd vectors count"},
    {"ReadFixed", "fd buffer length buffer_index"},
    {"WriteFixed", "fd buffer length buffer_index"},
    {"ReadvFixed", "fd vectors count buffer_index"},
    {"WritevFixed", "fd vectors count buffer_index"},
    {"ReadSelected", "fd group"},
    {"ReadvSelected", "fd vector group"},
    {"ReadMultishot", "fd group"},
    // ops_file.h
    {"Fsync", "fd"},
    {"SyncFileRange", "fd offset length flags"},
    {"Fallocate", "fd offset length"},
    {"Ftruncate", "fd length"},
    {"Fadvise", "fd advice"},
    {"Madvise", "address length advice"},
    {"Splice", "in out length"},
    {"Tee", "in out length"},
    {"Pipe", "fds"},
    {"Close", "fd"},
    {"FixedFdInstall", "file"},
    // ops_path.h
    {"OpenAt", "path flags"},
    {"OpenAt2", "path how"},
    {"Statx", "path result"},
    {"RenameAt", "old_path new_path"},
    {"UnlinkAt", "path"},
    {"MkdirAt", "path mode"},
    {"SymlinkAt", "target path"},
    {"LinkAt", "old_path new_path"},
    {"GetXattr", "path name value length"},
    {"FgetXattr", "fd name value length"},
    {"SetXattr", "path name value length"},
    {"FsetXattr", "fd name value length"},
    // ops_ring.h
    {"Nop", ""},
    {"Nop128", ""},
    {"Cancel", ""},
    {"CancelFd", "fd"},
    {"FilesUpdate", "fds count offset"},
    {"ProvideBuffers", "buffers length count group"},
    {"RemoveBuffers", "count group"},
    {"MsgRing", "ring data"},
    {"MsgRingFd", "ring source into data"},
    {"UringCmd", "fd command"},
    {"UringCmd128", "fd command"},
    {"UringCmdBig", "fd command"},
    {"BlockDiscard", "fd offset length"},
    // ops_socket.h
    {"Socket", "domain type"},
    {"Bind", "fd address address_length"},
    {"Listen", "fd backlog"},
    {"Accept", "fd"},
    {"AcceptMultishot", "fd"},
    {"Connect", "fd address address_length"},
    {"Shutdown", "fd how"},
    {"GetSocketOption", "fd option value length"},
    {"SetSocketOption", "fd option value length"},
    {"GetSocketName", "fd address address_length"},
    {"SocketInputQueue", "fd"},
    {"SocketOutputQueue", "fd"},
    {"SocketTxTimestamp", "fd"},
    // ops_transfer.h
    {"Send", "fd buffer length"},
    {"SendVectors", "fd vectors count"},
    {"SendSelected", "fd group"},
    {"SendBundle", "fd group"},
    {"SendZeroCopy", "fd buffer length"},
    {"SendZeroCopyFixed", "fd buffer length buffer_index"},
    {"SendZeroCopyVectors", "fd vectors count"},
    {"SendMsg", "fd message"},
    {"SendMsgZeroCopy", "fd message"},
    {"SendMsgZeroCopyFixed", "fd message buffer_index"},
    {"Recv", "fd buffer length"},
    {"RecvSelected", "fd group"},
    {"RecvBundle", "fd group"},
    {"RecvMultishot", "fd group"},
    {"RecvBundleMultishot", "fd group"},
    {"RecvZeroCopy", "fd interface_queue"},
    {"RecvMsg", "fd message"},
    {"RecvMsgSelected", "fd message group"},
    {"RecvMsgMultishot", "fd message group"},
    // ops_wait.h
    {"Timeout", "duration"},
    {"TimeoutMultishot", "duration"},
    {"TimeoutImmediate", "nanoseconds"},
    {"TimeoutImmediateMultishot", "nanoseconds"},
    {"TimeoutRemove", "user_data"},
    {"TimeoutUpdate", "user_data duration"},
    {"TimeoutUpdateImmediate", "user_data nanoseconds"},
    {"LinkTimeout", "duration"},
    {"LinkTimeoutImmediate", "nanoseconds"},
    {"PollAdd", "fd events"},
    {"PollMultishot", "fd events"},
    {"PollRemove", "user_data"},
    {"PollUpdate", "user_data flags"},
    {"EpollCtl", "epoll operation fd"},
    {"EpollWait", "epoll events max_events"},
    {"FutexWait", "word expected futex_flags"},
    {"FutexWake", "word count futex_flags"},
    {"FutexWaitV", "futexes count"},
    {"WaitId", "id_type id options"},
};

TEST(RawAllOps, RequireWhatTheyCannotDoWithout) {
  std::map<std::string, std::string> required;
  for (const auto& [op, fields] : kRequired) required[op] = fields;
  auto sources = ParseHeaders();
  for (const OpFacts& op : Facts()) {
    SCOPED_TRACE(op.type_name);
    const std::vector<Field>& fields = sources[op.type_name].fields;
    ASSERT_EQ(fields.size(), op.fields.size());
    std::vector<std::string> without_default;
    std::size_t up_to_last = 0;
    for (std::size_t i = 0; i < fields.size(); ++i) {
      if (fields[i].has_default) continue;
      without_default.push_back(fields[i].name);
      up_to_last = i + 1;
      EXPECT_TRUE(op.fields[i].required)
          << fields[i].name << " may be left out, and is then anything";
    }
    EXPECT_EQ(op.fewest_initializers, up_to_last);
    ASSERT_TRUE(required.contains(op.type_name));
    EXPECT_EQ(Join(without_default), required[op.type_name]);
  }
}

// The same, as it is written.
template <typename Op>
concept WithoutFd = requires(char* b) {
  Op{.buffer = b, .length = 1};
};
template <typename Op>
concept WithoutBuffer = requires {
  Op{.fd = 1, .length = 1};
};
template <typename Op>
concept WithoutLength = requires(char* b) {
  Op{.fd = 1, .buffer = b};
};
template <typename Op>
concept WithAll = requires(char* b) {
  Op{.fd = 1, .buffer = b, .length = 1};
};
static_assert(WithAll<Read> && WithAll<Write>);
static_assert(!WithoutFd<Read> && !WithoutBuffer<Read> && !WithoutLength<Read>);
static_assert(!WithoutFd<Write> && !WithoutBuffer<Write> &&
              !WithoutLength<Write>);
static_assert(!WithAll<ReadFixed>, "buffer_index is required");

// What HeldUntil() makes of the regions.
static_assert(HeldUntil<Nop>() == Until::kConsumed);
static_assert(HeldUntil<OpenAt>() == Until::kConsumed);
static_assert(HeldUntil<Timeout>() == Until::kConsumed);
static_assert(HeldUntil<Read>() == Until::kCompletion);
static_assert(HeldUntil<Readv>() == Until::kCompletion, "behind the vectors");
static_assert(HeldUntil<WriteFixed>() == Until::kCompletion);
static_assert(HeldUntil<AcceptMultishot>() == Until::kLastCompletion);
static_assert(HeldUntil<SendMsgZeroCopy>() == Until::kNotification);
static_assert(HeldUntil<ReadSelected>() == Until::kUnregistered);
static_assert(HeldUntil<RecvZeroCopy>() == Until::kTeardown);
static_assert(RegionOf("", &Statx::path).until == Until::kConsumed);
static_assert(RegionOf("", &Statx::result).until == Until::kCompletion);

static_assert(sizeof(KernelPtr<void, Until::kCompletion>) == sizeof(void*));
// What the kernel writes cannot be const.
static_assert(
    !std::convertible_to<const char*, KernelPtr<void, Until::kCompletion>>);
static_assert(std::convertible_to<const char*,
                                  KernelPtr<const void, Until::kCompletion>>);

}  // namespace
}  // namespace escrow::raw
