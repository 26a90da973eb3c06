// A fake libcuda.so.1: device, contexts, memory, modules and launches. Host memory is device memory and work is done when it is asked for.
#include "driver.h"
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <link.h>

namespace bp {
bool noop() {
    static const bool yes = setting("FAKE") == "noop";
    return yes;
}

static std::map<std::string, size_t>& counters() {
    static auto* all = new std::map<std::string, size_t>;
    return *all;
}
std::mutex& driver_lock() {
    static auto* lock = new std::mutex;
    return *lock;
}
static std::mutex& count_lock() {
    static auto* lock = new std::mutex;
    return *lock;
}
void count(const char* what) {
    std::lock_guard<std::mutex> hold(count_lock());
    counters()[what]++;
}

static unsigned thread_order() {
    static const std::string name = setting("ORDER");
    static std::atomic<unsigned> next{0};
    if (name == "rotate") return next++ % 6;
    static const unsigned fixed = name == "turn" ? 0 : name == "backward" ? 2 : name == "random" ? 3 : name.empty() || name == "forward" ? 1 : unsigned(atoi(name.c_str()));
    return fixed;
}

static bool on_device(const void* p, size_t bytes, const char* what) {
    if (!bytes || inside(p, bytes)) return true;
    say(std::string("a ") + what + " of " + std::to_string(bytes) + " bytes goes outside of every live allocation");
    return false;
}

int perform(const Node& n) {
    if (n.kind == Node::Kernel) {
        count("launches");
        if (noop()) return SUCCESS;
        std::lock_guard<std::mutex> one(n.function->module->lock);
        std::string wrong = run(n.launch, thread_order());
        if (wrong.empty()) return SUCCESS;
        say(wrong);
        return LAUNCH_FAILED;
    }
    count(n.kind == Node::Copy ? "copies" : "fills");
    const size_t bytes = n.kind == Node::Fill32 ? n.count * 4 : n.count;
    if (n.to_device && !on_device(n.to, bytes, "write")) return INVALID_VALUE;
    if (n.kind == Node::Copy && n.from_device && !on_device(n.from, bytes, "read")) return INVALID_VALUE;
    if (n.kind == Node::Copy) memmove(n.to, n.from, bytes);
    if (n.kind == Node::Fill8) memset(n.to, int(n.value), bytes);
    if (n.kind == Node::Fill32) std::fill_n(static_cast<unsigned*>(n.to), n.count, n.value);
    return SUCCESS;
}

static std::map<std::string, std::unique_ptr<Module>>& modules() {
    static auto* all = new std::map<std::string, std::unique_ptr<Module>>;
    return *all;
}

static void find_bounds(Module& m) {
    dl_iterate_phdr([](dl_phdr_info* info, size_t, void* data) {
        Module& m = *static_cast<Module*>(data);
        const char *low = nullptr, *high = nullptr, *image = reinterpret_cast<const char*>(m.image);
        for (int i = 0; i < info->dlpi_phnum; i++) {
            const auto& h = info->dlpi_phdr[i];
            if (h.p_type != PT_LOAD) continue;
            const char* at = reinterpret_cast<const char*>(info->dlpi_addr + h.p_vaddr);
            if (!low || at < low) low = at;
            if (at + h.p_memsz > high) high = at + h.p_memsz;
        }
        if (image < low || image >= high) return 0;
        m.begin = low;
        m.end = high;
        return 1;
    }, &m);
}

static Function* find_function(Module* m, const char* name) {
    auto& slot = m->functions[name];
    if (slot) return slot.get();
    const Kernel* kernel = nullptr;
    char* begin = nullptr;
    if (m->image) {
        kernel = static_cast<const Kernel*>(dlsym(m->handle, (std::string("bp_kernel_") + name).c_str()));
        if (!kernel) return nullptr;
        begin = m->image->shared_begin;
        for (const Kernel* const* k = m->image->kernels; k != m->image->kernels_end; k++)
            if ((*k)->shared_end < kernel->shared_end) begin = std::max(begin, (*k)->shared_end);
    }
    slot.reset(new Function{m, kernel, begin});
    return slot.get();
}

static size_t static_shared(const Function* f) { return f->kernel ? size_t(f->kernel->shared_end - f->shared_begin) : 0; }

static int launch(Function* f, const unsigned* grid, const unsigned* block, unsigned shared, void* stream, void** arguments);
}  // namespace bp
using namespace bp;

// ---- for tests -------------------------------------------------------------------------------------------------------------------
extern "C" __attribute__((visibility("default"))) const char* bp_last_message() { return last_message().c_str(); }
// How often: "launches", "graph launches", "copies", "fills"; now: "allocations", "bytes".
extern "C" __attribute__((visibility("default"))) size_t bp_count(const char* what) {
    if (!strcmp(what, "allocations")) return live_count();
    if (!strcmp(what, "bytes")) return live_bytes();
    std::lock_guard<std::mutex> hold(count_lock());
    return counters()[what];
}
// How many bytes each argument of this thread's next launch may touch, instead of its whole allocation.
static thread_local std::vector<size_t> next_extents;
extern "C" __attribute__((visibility("default"))) void bp_next_extents(unsigned n, const size_t* bytes) { next_extents.assign(bytes, bytes + n); }

// ---- device and context ----------------------------------------------------------------------------------------------------------
API cuInit(unsigned) { return setting("FAKE") == "nodevice" ? NO_DEVICE : SUCCESS; }
API cuDriverGetVersion(int* v) { *v = setting("FAKE") == "old" ? 12040 : 13000; return SUCCESS; }
API cuDeviceGetCount(int* n) { *n = 1; return SUCCESS; }
API cuDeviceGet(int* d, int i) { *d = i; return i ? INVALID_DEVICE : SUCCESS; }
API cuDeviceGetName(char* name, int n, int) { snprintf(name, size_t(n), "Emulated device"); return SUCCESS; }
API cuDeviceGetUuid_v2(char* uuid, int) { memset(uuid, 7, 16); return SUCCESS; }
API cuDeviceTotalMem_v2(size_t* bytes, int) { *bytes = room(); return SUCCESS; }
API cuDeviceGetAttribute(int* v, int attribute, int) {
    static const std::map<int, int> known = {
        {1, 1024}, {2, 1024}, {3, 1024}, {4, 64}, {5, 0x7fffffff}, {6, 65535}, {7, 65535}, {8, 48 << 10}, {9, 64 << 10}, {10, 32},
        {12, 65536}, {13, 1980000}, {16, 132}, {19, 1}, {31, 1}, {33, 1}, {36, 2619000}, {37, 5120}, {38, 50 << 20}, {39, 2048}, {40, 3},
        {41, 1}, {75, 9}, {76, 0}, {78, 1}, {81, 228 << 10}, {82, 65536}, {83, 1}, {95, 1}, {97, 227 << 10}, {106, 32}, {108, 32 << 20},
        {111, 1024}, {115, 1}, {120, 1},
    };
    auto at = known.find(attribute);
    *v = at == known.end() ? 0 : at->second;
    return SUCCESS;
}
static char the_context, the_pool;
static thread_local std::vector<void*> contexts(1, nullptr);
API cuDevicePrimaryCtxRetain(void** c, int) { *c = &the_context; return SUCCESS; }
API cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
API cuDevicePrimaryCtxGetState(int, unsigned* flags, int* active) { *flags = 0; *active = 1; return SUCCESS; }
API cuDevicePrimaryCtxSetFlags_v2(int, unsigned) { return SUCCESS; }
API cuCtxSetCurrent(void* c) { contexts.back() = c; return SUCCESS; }
API cuCtxGetCurrent(void** c) { *c = contexts.back(); return SUCCESS; }
API cuCtxPushCurrent_v2(void* c) { contexts.push_back(c); return SUCCESS; }
API cuCtxPopCurrent_v2(void** c) {
    if (c) *c = contexts.back();
    contexts.pop_back();
    if (contexts.empty()) contexts.push_back(nullptr);
    return SUCCESS;
}
API cuCtxGetDevice(int* d) { *d = 0; return SUCCESS; }
API cuCtxSynchronize() { return forbidden_in_capture(); }
API cuCtxGetStreamPriorityRange(int* least, int* greatest) { *least = 0; *greatest = -5; return SUCCESS; }
API cuDeviceGetDefaultMemPool(void** pool, int) { *pool = &the_pool; return SUCCESS; }
API cuDeviceGetMemPool(void** pool, int) { *pool = &the_pool; return SUCCESS; }
API cuMemPoolSetAttribute(void*, int, void*) { return SUCCESS; }
API cuMemPoolGetAttribute(void*, int, void* v) { *static_cast<u64*>(v) = 0; return SUCCESS; }
API cuMemPoolTrimTo(void*, size_t) { return SUCCESS; }

// ---- memory ----------------------------------------------------------------------------------------------------------------------
static int take(void** p, size_t bytes) {
    if (int wrong = forbidden_in_capture()) return wrong;
    if (!contexts.back()) return INVALID_CONTEXT;
    if (!bytes) return INVALID_VALUE;
    *p = allocate(bytes);
    return *p ? SUCCESS : OUT_OF_MEMORY;
}
static int give(void* p) {
    if (int wrong = forbidden_in_capture()) return wrong;
    return !p || release(p) ? SUCCESS : INVALID_VALUE;
}
API cuMemAlloc_v2(void** p, size_t bytes) { return take(p, bytes); }
API cuMemFree_v2(void* p) { return give(p); }
API cuMemAllocAsync(void** p, size_t bytes, void*) { return take(p, bytes); }
API cuMemFreeAsync(void* p, void*) { return give(p); }
API cuMemHostAlloc(void** p, size_t bytes, unsigned) { return take(p, bytes); }
API cuMemAllocHost_v2(void** p, size_t bytes) { return take(p, bytes); }
API cuMemFreeHost(void* p) { return give(p); }
API cuMemGetInfo_v2(size_t* unused, size_t* total) { *total = room(); *unused = room() - live_bytes(); return SUCCESS; }
static Node copy(void* to, const void* from, size_t bytes, bool to_device, bool from_device) {
    Node n;
    n.kind = Node::Copy;
    n.to = to;
    n.from = from;
    n.count = bytes;
    n.to_device = to_device;
    n.from_device = from_device;
    return n;
}
static Node fill(Node::Kind kind, void* to, unsigned value, size_t count) {
    Node n;
    n.kind = kind;
    n.to = to;
    n.value = value;
    n.count = count;
    return n;
}
static int now_or_never(const Node& n) {
    if (int wrong = forbidden_in_capture()) return wrong;
    return perform(n);
}
API cuMemcpyHtoD_v2(void* to, const void* from, size_t n) { return now_or_never(copy(to, from, n, true, false)); }
API cuMemcpyDtoH_v2(void* to, const void* from, size_t n) { return now_or_never(copy(to, from, n, false, true)); }
API cuMemcpyDtoD_v2(void* to, const void* from, size_t n) { return now_or_never(copy(to, from, n, true, true)); }
API cuMemcpyHtoDAsync_v2(void* to, const void* from, size_t n, void* s) { return submit(s, copy(to, from, n, true, false)); }
API cuMemcpyDtoHAsync_v2(void* to, const void* from, size_t n, void* s) { return submit(s, copy(to, from, n, false, true)); }
API cuMemcpyDtoDAsync_v2(void* to, const void* from, size_t n, void* s) { return submit(s, copy(to, from, n, true, true)); }
API cuMemcpyAsync(void* to, const void* from, size_t n, void* s) { return submit(s, copy(to, from, n, false, false)); }
API cuMemsetD8_v2(void* to, unsigned char v, size_t n) { return now_or_never(fill(Node::Fill8, to, v, n)); }
API cuMemsetD32_v2(void* to, unsigned v, size_t n) { return now_or_never(fill(Node::Fill32, to, v, n)); }
API cuMemsetD8Async(void* to, unsigned char v, size_t n, void* s) { return submit(s, fill(Node::Fill8, to, v, n)); }
API cuMemsetD32Async(void* to, unsigned v, size_t n, void* s) { return submit(s, fill(Node::Fill32, to, v, n)); }

// ---- modules and launches --------------------------------------------------------------------------------------------------------
API cuModuleLoadData(void** module, const void* image) {
    std::lock_guard<std::mutex> hold(driver_lock());
    if (!contexts.back()) return INVALID_CONTEXT;
    const char* text = static_cast<const char*>(image);
    std::string path = noop() ? "" : strncmp(text, "BPHOST:", 7) ? "?" : text + 7;
    if (path == "?") return INVALID_IMAGE;
    auto& slot = modules()[path];
    if (!slot) slot.reset(new Module);
    Module& m = *slot;
    if (!path.empty() && !m.handle) {
        m.handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (!m.handle) {
            say(dlerror());
            return INVALID_IMAGE;
        }
        m.image = static_cast<const Image*>(dlsym(m.handle, "bp_image"));
        if (!m.image) return INVALID_IMAGE;
        *m.image->runtime = runtime();
        find_bounds(m);
    }
    *module = &m;
    return SUCCESS;
}
API cuModuleLoadDataEx(void** module, const void* image, unsigned, void*, void**) { return cuModuleLoadData(module, image); }
API cuModuleUnload(void*) { return SUCCESS; }   // loading is what costs: an image stays for the next test
API cuModuleGetFunction(void** function, void* module, const char* name) {
    std::lock_guard<std::mutex> hold(driver_lock());
    *function = find_function(static_cast<Module*>(module), name);
    return *function ? SUCCESS : NOT_FOUND;
}
API cuFuncSetAttribute(void* function, int attribute, int value) {
    Function* f = static_cast<Function*>(function);
    if (attribute != 8) return SUCCESS;
    if (value < 0 || size_t(value) + static_shared(f) > MAX_SHARED) return INVALID_VALUE;
    f->dynamic_shared = unsigned(value);
    return SUCCESS;
}
API cuFuncGetAttribute(int* value, int attribute, void* function) {
    const Function* f = static_cast<Function*>(function);
    switch (attribute) {
        case 0: *value = 1024; break;
        case 1: *value = int(static_shared(f)); break;
        case 4: *value = 32; break;
        case 5: case 6: *value = 90; break;
        case 8: *value = int(f->dynamic_shared); break;
        default: *value = 0;
    }
    return SUCCESS;
}
API cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void*, int threads, size_t shared) {
    *blocks = threads < 1 ? 0 : int(std::min<size_t>(std::min(32, 2048 / threads), shared ? (228u << 10) / (shared + 1024) : 32));
    return SUCCESS;
}

static int bp::launch(Function* f, const unsigned* grid, const unsigned* block, unsigned shared, void* stream, void** arguments) {
    const u64 threads = u64(block[0]) * block[1] * block[2];
    if (!f || !threads || threads > MAX_THREADS || block[2] > 64 || !grid[0] || !grid[1] || !grid[2] || grid[0] > 0x7fffffffu || grid[1] > 65535 || grid[2] > 65535) {
        say("a launch with a grid or block of an impossible size");
        return INVALID_VALUE;
    }
    if (shared > f->dynamic_shared || shared + static_shared(f) > MAX_SHARED || static_shared(f) > 48 << 10) {
        say("a launch with more shared memory than the kernel may have: " + std::to_string(shared) + " dynamic and " + std::to_string(static_shared(f)) + " static bytes");
        return INVALID_VALUE;
    }
    Node n;
    n.kind = Node::Kernel;
    n.function = f;
    n.launch.image = f->module->image;
    n.launch.kernel = f->kernel;
    n.launch.image_begin = f->module->begin;
    n.launch.image_end = f->module->end;
    n.launch.shared_begin = f->shared_begin;
    n.launch.dynamic_shared = shared;
    std::copy(grid, grid + 3, n.launch.grid);
    std::copy(block, block + 3, n.launch.block);
    for (unsigned i = 0; f->kernel && i < f->kernel->arity; i++) n.launch.arguments[i] = *static_cast<void**>(arguments[i]);
    n.launch.extents = std::move(next_extents);
    next_extents.clear();
    return submit(stream, std::move(n));
}
API cuLaunchKernel(void* f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, void* stream, void** arguments, void**) {
    const unsigned grid[3] = {gx, gy, gz}, block[3] = {bx, by, bz};
    return bp::launch(static_cast<Function*>(f), grid, block, shared, stream, arguments);
}
struct LaunchConfig { unsigned grid[3], block[3], shared; void *stream, *attributes; unsigned n; };
API cuLaunchKernelEx(const LaunchConfig* c, void* f, void** arguments, void**) {
    return bp::launch(static_cast<Function*>(f), c->grid, c->block, c->shared, c->stream, arguments);
}

// ---- names -----------------------------------------------------------------------------------------------------------------------
static const std::map<int, std::pair<const char*, const char*>>& names() {
    static const auto* all = new std::map<int, std::pair<const char*, const char*>>{
        {SUCCESS, {"CUDA_SUCCESS", "no error"}}, {INVALID_VALUE, {"CUDA_ERROR_INVALID_VALUE", "invalid argument"}},
        {OUT_OF_MEMORY, {"CUDA_ERROR_OUT_OF_MEMORY", "out of memory"}}, {NO_DEVICE, {"CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"}},
        {INVALID_DEVICE, {"CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"}}, {INVALID_IMAGE, {"CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"}},
        {INVALID_CONTEXT, {"CUDA_ERROR_INVALID_CONTEXT", "invalid device context"}}, {INVALID_HANDLE, {"CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"}},
        {NOT_FOUND, {"CUDA_ERROR_NOT_FOUND", "named symbol not found"}}, {LAUNCH_FAILED, {"CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"}},
        {CAPTURE_UNSUPPORTED, {"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"}},
        {CAPTURE_INVALIDATED, {"CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"}},
        {CAPTURE_UNJOINED, {"CUDA_ERROR_STREAM_CAPTURE_UNJOINED", "capturing stream has unjoined work"}},
    };
    return *all;
}
API cuGetErrorName(int e, const char** text) { auto at = names().find(e); *text = at == names().end() ? "CUDA_ERROR" : at->second.first; return SUCCESS; }
API cuGetErrorString(int e, const char** text) { auto at = names().find(e); *text = at == names().end() ? "an error" : at->second.second; return SUCCESS; }
API cuGetProcAddress_v2(const char* name, void** f, int, u64, int* status) {
    static void* self = [] { Dl_info here; return dladdr(reinterpret_cast<void*>(&cuInit), &here) ? dlopen(here.dli_fname, RTLD_NOW) : nullptr; }();
    *f = dlsym(self, (std::string(name) + "_v2").c_str());
    if (!*f) *f = dlsym(self, name);
    if (status) *status = *f ? 0 : 1;
    return *f ? SUCCESS : NOT_FOUND;
}
