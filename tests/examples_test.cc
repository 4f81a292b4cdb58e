// usage: examples_test [PROGRAM ARGUMENT...]
//
// Runs the examples that have no test of their own; if a program is given, by
// that, with their command lines behind its arguments.

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "escrow/examples/http.h"
#include "escrow/ownership/descriptor.h"
#include "tests/sim/process.h"

namespace escrow::examples {
namespace {

namespace fs = std::filesystem;
using ownership::Descriptor;
using testing::Ended;

// What runs the examples, and the arguments of that.
std::vector<std::string>& Runner() {
  static std::vector<std::string> runner;
  return runner;
}

// For a shell.
std::string Program(const std::string& name) {
  std::string command;
  for (const std::string& word : Runner()) command += word + ' ';
  return command + "examples/" + name;
}

Ended Shell(const std::string& command) {
  return testing::RunProgram({"/bin/sh", "-c", command});
}

class DirectoryTest : public ::testing::Test {
 protected:
  DirectoryTest() {
    std::string name = ::testing::TempDir() + "/examples_test.XXXXXX";
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
  }
  ~DirectoryTest() override { fs::remove_all(directory_); }

  std::string Make(const std::string& name, const std::string& content) {
    const fs::path path = directory_ / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }

  fs::path directory_;
};

std::string Pattern(std::size_t size) {
  std::string bytes(size, ' ');
  for (std::size_t i = 0; i < size; ++i) {
    bytes[i] = static_cast<char>(i * 7 + i / 256);
  }
  return bytes;
}

// A server that runs until the end of the test.
class Server {
 public:
  Server(const std::string& name, const std::vector<std::string>& options) {
    std::vector<std::string> arguments = Runner();
    arguments.push_back("examples/" + name);
    arguments.insert(arguments.end(), options.begin(), options.end());
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const Descriptor out = Descriptor::Adopt(ends[0]);
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    process_ = ::fork();
    if (process_ == 0) {
      ::dup2(ends[1], STDOUT_FILENO);
      ::execv(argv[0], argv.data());
      std::_Exit(127);
    }
    ::close(ends[1]);
    // "listening on ...:PORT" or "...:PORT/"
    std::string line;
    char byte;
    while (::read(out.number(), &byte, 1) == 1 && byte != '\n') line += byte;
    const std::size_t colon = line.rfind(':');
    EXPECT_NE(colon, std::string::npos) << line;
    port_ = static_cast<std::uint16_t>(
        std::strtoul(line.c_str() + colon + 1, nullptr, 10));
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server() { EXPECT_EQ(Stop(), 0); }

  // Its exit status, or 128 and the signal that it died of.
  int Stop() {
    if (process_ <= 0) return 0;
    ::kill(process_, SIGTERM);
    int status = 0;
    ::waitpid(std::exchange(process_, 0), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  std::uint16_t port() const { return port_; }

  Descriptor Connect() const {
    Descriptor socket =
        Descriptor::Adopt(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = ::htons(port_);
    address.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(socket.number(), reinterpret_cast<sockaddr*>(&address),
                        sizeof address),
              0);
    return socket;
  }

 private:
  pid_t process_ = -1;
  std::uint16_t port_ = 0;
};

void Send(const Descriptor& socket, const std::string& text) {
  EXPECT_EQ(::send(socket.number(), text.data(), text.size(), MSG_NOSIGNAL),
            std::ssize(text));
}

// `size` bytes, or what comes until the end.
std::string Receive(const Descriptor& socket, std::size_t size) {
  std::string text(size, ' ');
  std::size_t have = 0;
  while (have < size) {
    const ssize_t part =
        ::recv(socket.number(), text.data() + have, size - have, 0);
    if (part <= 0) break;
    have += static_cast<std::size_t>(part);
  }
  text.resize(have);
  return text;
}
std::string ReceiveAll(const Descriptor& socket) {
  std::string text = Receive(socket, std::size_t{1} << 22);
  return text;
}

TEST(EchoServerTest, SendsBackWhatItGets) {
  Server server("echo_server", {"0"});
  std::vector<Descriptor> peers;
  for (int i = 0; i < 50; ++i) peers.push_back(server.Connect());
  for (std::size_t i = 0; i < peers.size(); ++i) {
    Send(peers[i], "this is " + std::to_string(i));
  }
  for (std::size_t i = 0; i < peers.size(); ++i) {
    const std::string expected = "this is " + std::to_string(i);
    EXPECT_EQ(Receive(peers[i], expected.size()), expected);
  }
  // More than it takes at once.
  const std::string much = Pattern(100'000);
  Send(peers[0], much);
  EXPECT_EQ(::shutdown(peers[0].number(), SHUT_WR), 0);
  EXPECT_TRUE(ReceiveAll(peers[0]) == much);
  // Some leave, others stay until it is stopped.
  peers.resize(25);
  EXPECT_EQ(server.Stop(), 0);
}

TEST(EchoServerTest, SaysWhatIsWrong) {
  const Server server("echo_server", {"0"});
  const Ended taken =
      Shell(Program("echo_server ") + std::to_string(server.port()));
  EXPECT_EQ(taken.status, 1);
  EXPECT_NE(taken.output.find("Address already in use"), std::string::npos)
      << taken.output;
  EXPECT_EQ(Shell(Program("echo_server 70000")).status, 1);
}

class FileServerTest : public DirectoryTest {
 protected:
  FileServerTest() {
    Make("index.html", "<p>hello");
    Make("below/a b.txt", "text");
    Make("large", large_);
    Make("empty", "");
    fs::create_symlink("/etc/passwd", directory_ / "out");
    ::chmod(Make("secret", "x").c_str(), 0);
  }

  // What one request on a connection of its own is answered.
  std::string Ask(const std::string& line, const std::string& fields = "") {
    const Descriptor socket = server_.Connect();
    Send(socket, line + " HTTP/1.1\r\nHost: here\r\n" + fields +
                     "Connection: close\r\n\r\n");
    return ReceiveAll(socket);
  }
  static std::string Head(const std::string& status, const std::string& type,
                          std::size_t length, bool keep_alive = false) {
    return "HTTP/1.1 " + status + "\r\nContent-Type: " + type +
           "\r\nContent-Length: " + std::to_string(length) +
           "\r\nConnection: " + (keep_alive ? "keep-alive" : "close") +
           "\r\n\r\n";
  }

  const std::string large_ = Pattern(1'000'000);
  Server server_{"file_server", {DirectoryTest::directory_, "0"}};
};

TEST_F(FileServerTest, ServesFiles) {
  const std::string html = "text/html; charset=utf-8";
  const std::string bytes = "application/octet-stream";
  EXPECT_EQ(Ask("GET /"), Head("200 OK", html, 8) + "<p>hello");
  EXPECT_EQ(Ask("GET /index.html?x=1"), Head("200 OK", html, 8) + "<p>hello");
  EXPECT_EQ(Ask("HEAD /index.html"), Head("200 OK", html, 8));
  EXPECT_EQ(Ask("GET /below/a%20b.txt"),
            Head("200 OK", "text/plain; charset=utf-8", 4) + "text");
  EXPECT_EQ(Ask("GET /empty"), Head("200 OK", bytes, 0));
  EXPECT_TRUE(Ask("GET /large") ==
              Head("200 OK", bytes, large_.size()) + large_);
}

TEST_F(FileServerTest, RefusesWhatItHasNot) {
  const auto status = [](const std::string& response) {
    return response.substr(0, response.find('\r'));
  };
  const std::string not_found = "HTTP/1.1 404 Not Found";
  EXPECT_EQ(status(Ask("GET /none")), not_found);
  EXPECT_EQ(status(Ask("GET /below")), not_found);
  // Nothing outside, however it is written.
  EXPECT_EQ(status(Ask("GET /../../etc/passwd")), not_found);
  EXPECT_EQ(status(Ask("GET /%2e%2e/%2e%2e/etc/passwd")), not_found);
  EXPECT_EQ(status(Ask("GET //etc/passwd")), not_found);
  EXPECT_EQ(status(Ask("GET /out")), not_found);
  if (::geteuid() != 0) {
    EXPECT_EQ(status(Ask("GET /secret")), "HTTP/1.1 403 Forbidden");
  }
  EXPECT_EQ(status(Ask("POST /")), "HTTP/1.1 405 Method Not Allowed");
  EXPECT_EQ(status(Ask("GET nothing")), "HTTP/1.1 400 Bad Request");
  EXPECT_EQ(status(Ask("GET /", "X: " + std::string(20'000, 'x') + "\r\n")),
            "HTTP/1.1 431 Request Header Fields Too Large");
}

// One connection, several requests, in pieces and together.
TEST_F(FileServerTest, KeepsConnections) {
  const Descriptor socket = server_.Connect();
  const std::string answer =
      Head("200 OK", "text/html; charset=utf-8", 8, true) + "<p>hello";
  Send(socket, "GET / HTTP/1.1\r\nHo");
  Send(socket, "st: here\r\n\r\nGET / HTTP/1.1\r\n\r\n");
  EXPECT_EQ(Receive(socket, 2 * answer.size()), answer + answer);
  Send(socket, "GET / HTTP/1.0\r\nconnection: Keep-Alive\r\n\r\n");
  EXPECT_EQ(Receive(socket, answer.size()), answer);
  Send(socket, "GET / HTTP/1.0\r\n\r\n");
  EXPECT_EQ(ReceiveAll(socket),
            Head("200 OK", "text/html; charset=utf-8", 8) + "<p>hello");
}

TEST_F(FileServerTest, GoesOnWhenPeersDoNot) {
  for (int i = 0; i < 20; ++i) {
    const Descriptor socket = server_.Connect();
    Send(socket, "GET /large HTTP/1.1\r\n\r\n");
    (void)Receive(socket, 1000);
  }
  EXPECT_EQ(Ask("HEAD /").substr(0, 15), "HTTP/1.1 200 OK");
}

// With ApacheBench, from Debian's apache2-utils.
TEST_F(FileServerTest, BearsLoad) {
  const std::string url =
      " http://127.0.0.1:" + std::to_string(server_.port()) + "/";
  for (const std::string& arguments :
       {"-k -c 32 -n 5000" + url, "-c 64 -n 500" + url,
        "-k -c 16 -n 200" + url + "large"}) {
    const Ended outcome = Shell("ab -q " + arguments);
    EXPECT_EQ(outcome.status, 0) << outcome.output;
    EXPECT_NE(outcome.output.find("Failed requests:        0\n"),
              std::string::npos)
        << outcome.output;
    EXPECT_EQ(outcome.output.find("Non-2xx"), std::string::npos)
        << outcome.output;
  }
}

using ChecksumTest = DirectoryTest;

TEST_F(ChecksumTest, IsThatOfSum) {
  std::string files;
  for (const std::size_t size : {0, 1, 511, 65536, 65537, 3'000'000}) {
    files += ' ' + Make(std::to_string(size), Pattern(size));
  }
  const Ended expected = Shell("sum --sysv" + files);
  ASSERT_EQ(expected.status, 0) << expected.output;
  for (const std::string options :
       {"", "--threads=1 --queue=serial", "--threads=3 --queue=threads",
        "--threads=7 --queue=ring"}) {
    const Ended outcome = Shell(Program("checksum ") + options + files);
    EXPECT_EQ(outcome.status, 0);
    EXPECT_EQ(outcome.output, expected.output) << options;
  }
}

TEST_F(ChecksumTest, SaysWhatIsWrong) {
  EXPECT_EQ(Shell(Program("checksum")).status, 2);
  EXPECT_EQ(Shell(Program("checksum --threads=0 x")).status, 2);
  EXPECT_EQ(Shell(Program("checksum --queue=other x")).status, 2);
  const std::string good = Make("good", "x");
  const Ended outcome =
      Shell(Program("checksum ") + directory_.string() + "/none " + good);
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.output.find("No such file or directory"),
            std::string::npos);
  EXPECT_NE(outcome.output.find(good), std::string::npos) << outcome.output;
}

TEST(TwoBusesTest, ReadsToTheEnd) {
  const Ended outcome = Shell("seq 20000 | " + Program("two_buses"));
  EXPECT_EQ(outcome.status, 0);
  EXPECT_EQ(outcome.output.substr(0, 16), "108894 bytes in ") << outcome.output;
}

TEST(RegistryTest, HearsOfAll) {
  for (const std::string options : {"", " --epoll"}) {
    const Ended outcome = Shell(Program("registry") + options);
    EXPECT_EQ(outcome.status, 0);
    EXPECT_EQ(outcome.output, "400 lines from 4 threads\n");
  }
}

TEST(HttpTest, HeadsAreParsed) {
  EXPECT_EQ(HeadLength("GET / HTTP/1.1\r\n"), 0u);
  EXPECT_EQ(HeadLength("GET / HTTP/1.1\r\n\r\nrest"), 18u);
  const auto request =
      ParseHead("GET /a%2Fb?c=d HTTP/1.1\r\nconnection:  CLOSE \r\n\r\n");
  ASSERT_TRUE(request);
  EXPECT_EQ(request->method, "GET");
  EXPECT_EQ(request->path, "/a/b");
  EXPECT_FALSE(request->keep_alive);
  for (const char* const bad :
       {"", "\r\n\r\n", "GET\r\n\r\n", "GET /\r\n\r\n", "GET / HTTP/2\r\n\r\n",
        "GET x HTTP/1.1\r\n\r\n", "GET /% HTTP/1.1\r\n\r\n",
        "GET /%0 HTTP/1.1\r\n\r\n", "GET /%g0 HTTP/1.1\r\n\r\n",
        "GET /%00 HTTP/1.1\r\n\r\n", "GET / HTTP/1.1 \r\n\r\n"}) {
    EXPECT_FALSE(ParseHead(bad)) << bad;
  }
}

}  // namespace
}  // namespace escrow::examples

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  escrow::examples::Runner().assign(argv + 1, argv + argc);
  return RUN_ALL_TESTS();
}
