// The fake driver's objects.
#pragma once
#include "emulator.h"
#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <set>
#include <thread>

namespace bp {
enum Result : int {
    SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100, INVALID_DEVICE = 101, INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201, SYMBOL_NOT_FOUND = 302, INVALID_HANDLE = 400, NOT_FOUND = 500, LAUNCH_FAILED = 719, NOT_SUPPORTED = 801,
    CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901, CAPTURE_MERGE = 902, CAPTURE_UNMATCHED = 903, CAPTURE_UNJOINED = 904,
    CAPTURED_EVENT = 907, CAPTURE_WRONG_THREAD = 908,
};

struct Module {
    void* handle = nullptr;
    const Image* image = nullptr;
    const char *begin = nullptr, *end = nullptr;
    std::mutex lock;               // a kernel's shared memory is one place: one launch at a time
    unsigned users = 0;
    std::string path;
    std::map<std::string, std::unique_ptr<struct Function>> functions;
};
struct Function {
    Module* module;
    const Kernel* kernel;          // null where launches do nothing
    char* shared_begin;
    unsigned dynamic_shared = 48 << 10;
};

struct Node {
    enum Kind { Kernel, Copy, Fill8, Fill32 } kind = Kernel;
    Function* function = nullptr;
    Launch launch = {};
    void* to = nullptr;
    const void* from = nullptr;
    size_t count = 0;
    unsigned value = 0;
    bool to_device = true, from_device = true;
    std::vector<size_t> after;     // the nodes that must have run before
};

struct Stream;
struct Capture {
    Stream* origin;
    std::vector<Node> nodes;
    std::set<Stream*> streams;
    int mode;
    std::thread::id thread;
    bool broken = false;
};
struct Stream {
    std::shared_ptr<Capture> capture;
    std::set<size_t> tail;         // captured nodes that the next one comes after
    int priority = 0;
    unsigned flags = 0;
    bool failed = false;
};
struct Event {
    std::weak_ptr<Capture> capture;
    bool captured = false, recorded = false;
    std::set<size_t> tail;
    std::chrono::steady_clock::time_point at;
};
struct Graph { std::vector<Node> nodes; };

Stream* stream_of(void* handle);
std::mutex& driver_lock();
// 900 where the running thread may not wait or allocate since it captures.
int forbidden_in_capture();
int submit(void* stream, Node node);
int perform(const Node& node);
void count(const char* what);
bool noop();
}  // namespace bp
#define API extern "C" __attribute__((visibility("default"))) int
