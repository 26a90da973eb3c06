// Host memory as device memory, settings and messages.
#include "emulator.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <map>
#include <sys/mman.h>

namespace bp {
constexpr size_t ALIGN = 256, GUARD = 256;
struct Block { size_t bytes; Cell* cells; };
static std::map<char*, Block>& blocks() {
    static auto* all = new std::map<char*, Block>;   // never destroyed: other threads may still free at exit
    return *all;
}
static size_t used;
std::recursive_mutex& memory_lock() {
    static auto* lock = new std::recursive_mutex;
    return *lock;
}
using Hold = std::lock_guard<std::recursive_mutex>;

static size_t cell_bytes(size_t bytes) { return (bytes / 4 + 1) * sizeof(Cell); }

void* allocate(size_t bytes) {
    Hold hold(memory_lock());
    const size_t whole = (bytes + ALIGN - 1) / ALIGN * ALIGN + GUARD;
    if (bytes > room() - used) return nullptr;
    char* memory = static_cast<char*>(aligned_alloc(ALIGN, whole));
    if (!memory) return nullptr;
    memset(memory, 0xff, whole);
    // Untouched pages of the shadow cost nothing.
    void* cells = mmap(nullptr, cell_bytes(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    blocks()[memory] = {bytes, static_cast<Cell*>(cells)};
    used += bytes;
    return memory;
}

bool release(void* memory) {
    Hold hold(memory_lock());
    auto at = blocks().find(static_cast<char*>(memory));
    if (at == blocks().end()) return false;
    const Block& block = at->second;
    for (size_t i = 0; i < GUARD; i++)
        if (at->first[block.bytes + i] != char(0xff)) {
            say("something wrote past the end of an allocation of " + std::to_string(block.bytes) + " bytes, " + std::to_string(i) + " bytes past its end");
            break;
        }
    used -= block.bytes;
    munmap(block.cells, cell_bytes(block.bytes));
    memset(memory, 0xff, block.bytes);
    free(memory);
    blocks().erase(at);
    return true;
}

bool inside(const void* memory, size_t bytes) {
    Hold hold(memory_lock());
    char* begin = static_cast<char*>(const_cast<void*>(memory));
    auto at = blocks().upper_bound(begin);
    if (at == blocks().begin()) return false;
    --at;
    return begin + bytes <= at->first + at->second.bytes;
}

std::vector<Buffer> live_buffers() {
    Hold hold(memory_lock());
    std::vector<Buffer> all;
    for (auto& [begin, block] : blocks()) all.push_back({begin, block.bytes, begin, block.cells, false});
    return all;
}

size_t live_bytes() { Hold hold(memory_lock()); return used; }
size_t live_count() { Hold hold(memory_lock()); return blocks().size(); }

// The device's memory; BP_FAKE=oom leaves none, BP_FAKE=oom:BYTES so many.
size_t room() {
    static const size_t bytes = [] {
        std::string fake = setting("FAKE");
        if (fake.rfind("oom", 0) != 0) return size_t(80) << 30;
        return fake.size() > 4 ? size_t(strtoull(fake.c_str() + 4, nullptr, 10)) : size_t(0);
    }();
    return bytes;
}

// BP_<NAME> of the environment, else the line `NAME=value` of the file emulator.conf beside this library.
std::string setting(const char* name) {
    if (const char* value = getenv((std::string("BP_") + name).c_str())) return value;
    Dl_info here;
    if (!dladdr(reinterpret_cast<void*>(&setting), &here)) return "";
    std::string path = here.dli_fname, found;
    path = path.substr(0, path.rfind('/') + 1) + "emulator.conf";
    FILE* file = fopen(path.c_str(), "r");
    if (!file) return "";
    char line[1024];
    const size_t length = strlen(name);
    while (fgets(line, sizeof line, file))
        if (!strncmp(line, name, length) && line[length] == '=') {
            found = line + length + 1;
            while (!found.empty() && (found.back() == '\n' || found.back() == '\r')) found.pop_back();
        }
    fclose(file);
    return found;
}

static std::string& message() {
    static thread_local std::string* text = new std::string;
    return *text;
}
void say(const std::string& text) {
    message() = text;
    fprintf(stderr, "CUDA emulator: %s\n", text.c_str());
}
const std::string& last_message() { return message(); }
}  // namespace bp
