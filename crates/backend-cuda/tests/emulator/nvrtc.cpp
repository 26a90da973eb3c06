// A fake libnvrtc.so.13: g++ compiles the source into a shared library, and the "CUBIN" is the text BPHOST:<its path>.
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fcntl.h>
#include <spawn.h>
#include <string>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

extern char** environ;
#define API extern "C" __attribute__((visibility("default"))) int

enum Result { SUCCESS = 0, OUT_OF_MEMORY = 1, INVALID_INPUT = 3, INVALID_PROGRAM = 4, INVALID_OPTION = 5, COMPILATION = 6, BUILTIN_FAILURE = 7 };
struct Program { std::string source, name, log, cubin; };

static std::string here() {
    Dl_info info;
    dladdr(reinterpret_cast<void*>(&here), &info);
    std::string path = info.dli_fname;
    return path.substr(0, path.rfind('/') + 1);
}

static std::string read_file(const std::string& path) {
    std::string text;
    FILE* file = fopen(path.c_str(), "rb");
    if (!file) return text;
    char part[4096];
    for (size_t n; (n = fread(part, 1, sizeof part, file)) > 0;) text.append(part, n);
    fclose(file);
    return text;
}

static bool write_file(const std::string& path, const std::string& text) {
    FILE* file = fopen(path.c_str(), "wb");
    if (!file) return false;
    const bool whole = fwrite(text.data(), 1, text.size(), file) == text.size();
    return fclose(file) == 0 && whole;
}

// The environment's value, else the one of emulator.conf beside this library.
static std::string setting(const char* variable, const char* name, const char* otherwise) {
    if (const char* value = getenv(variable)) return value;
    const std::string text = "\n" + read_file(here() + "emulator.conf"), key = std::string("\n") + name + "=";
    const size_t at = text.find(key);
    if (at == std::string::npos) return otherwise;
    const size_t begin = at + key.size();
    return text.substr(begin, text.find('\n', begin) - begin);
}

static unsigned long long hash(const std::string& text, unsigned long long h = 0xcbf29ce484222325ull) {
    for (unsigned char c : text) h = (h ^ c) * 0x100000001b3ull;
    return h;
}

static std::vector<std::string> words(const std::string& text) {
    std::vector<std::string> all;
    for (size_t at = 0; (at = text.find_first_not_of(' ', at)) != std::string::npos;) {
        const size_t end = text.find(' ', at);
        all.push_back(text.substr(at, end - at));
        at = end == std::string::npos ? text.size() : end;
    }
    return all;
}

static bool run(std::vector<std::string> command, const std::string& log) {
    std::vector<char*> argv;
    for (auto& word : command) argv.push_back(&word[0]);
    argv.push_back(nullptr);
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 2, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
    posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
    pid_t child;
    const int error = posix_spawnp(&child, argv[0], &files, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&files);
    if (error) {
        write_file(log, std::string(argv[0]) + ": " + strerror(error) + "\n");
        return false;
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// Several processes, and several copies of this library in one, may compile the same: each under a name of its own, renamed at the end.
static bool build(Program& p, const std::string& stem, bool checked, const std::string& flags) {
    static int counter;
    const std::string own = stem + "." + std::to_string(getpid()) + "." + std::to_string(reinterpret_cast<size_t>(&counter)) + "." + std::to_string(__atomic_add_fetch(&counter, 1, __ATOMIC_RELAXED));
    const std::string source = stem + ".cpp", object = own + ".o", library = own + ".so", log = own + ".log";
    if (!write_file(own + ".cpp", p.source) || rename((own + ".cpp").c_str(), source.c_str())) {
        p.log = "cannot write " + source;
        return false;
    }
    std::vector<std::string> compile = {"g++", "-std=c++17", "-O1", "-w", "-g0", "-fPIC", "-ffp-contract=off", "-fno-toplevel-reorder", "-fvisibility=hidden",
        "-fno-math-errno", "-fno-exceptions", "-fno-rtti", "-fno-asynchronous-unwind-tables", "-fno-strict-aliasing", "-include", here() + "cuda_host.h"};
    if (checked)
        for (const char* flag : {"-DBP_CHECK", "-fsanitize=thread", "--param=tsan-instrument-func-entry-exit=0", "--param=tsan-distinguish-volatile=1"}) compile.push_back(flag);
    for (auto& flag : words(flags)) compile.push_back(flag);
    for (auto& word : {std::string("-c"), source, std::string("-o"), object}) compile.push_back(word);
    const bool done = run(compile, log) && run({"g++", "-shared", "-o", library, object}, log) && !rename(library.c_str(), (stem + ".so").c_str());
    p.log = read_file(log);
    unlink(object.c_str());
    unlink(log.c_str());
    return done;
}

API nvrtcVersion(int* major, int* minor) { *major = 13; *minor = 0; return SUCCESS; }
extern "C" __attribute__((visibility("default"))) const char* nvrtcGetErrorString(int e) {
    switch (e) {
        case SUCCESS: return "NVRTC_SUCCESS";
        case INVALID_INPUT: return "NVRTC_ERROR_INVALID_INPUT";
        case INVALID_PROGRAM: return "NVRTC_ERROR_INVALID_PROGRAM";
        case INVALID_OPTION: return "NVRTC_ERROR_INVALID_OPTION";
        case COMPILATION: return "NVRTC_ERROR_COMPILATION";
        default: return "NVRTC_ERROR";
    }
}
API nvrtcGetNumSupportedArchs(int* n) { *n = 2; return SUCCESS; }
API nvrtcGetSupportedArchs(int* archs) { archs[0] = 80; archs[1] = 90; return SUCCESS; }
API nvrtcCreateProgram(void** program, const char* source, const char* name, int headers, const char* const*, const char* const*) {
    if (!source || headers) return INVALID_INPUT;
    *program = new Program{source, name ? name : "default_program", "", ""};
    return SUCCESS;
}
API nvrtcDestroyProgram(void** program) {
    delete static_cast<Program*>(*program);
    *program = nullptr;
    return SUCCESS;
}
API nvrtcCompileProgram(void* program, int n, const char* const* options) {
    Program& p = *static_cast<Program*>(program);
    for (int i = 0; i < n; i++) if (options[i][0] != '-') return INVALID_OPTION;
    const bool checked = setting("BP_EMULATOR_CHECK", "CHECK", "0") == "1";
    const std::string flags = setting("BP_EMULATOR_FLAGS", "FLAGS", ""), folder = setting("BP_EMULATOR_DIR", "DIR", (here() + "../kernels").c_str());
    mkdir(folder.c_str(), 0755);
    unsigned long long h = hash(p.source + "\n" + flags + (checked ? "\nchecked" : ""));
    for (const char* header : {"abi.h", "cuda_host.h", "cuda_math.h", "cuda_atomic.h"}) h = hash(read_file(here() + header), h);
    char name[32];
    snprintf(name, sizeof name, "/%016llx", h);
    const std::string stem = folder + name;
    if (access((stem + ".so").c_str(), R_OK) && !build(p, stem, checked, flags)) return COMPILATION;
    p.cubin = "BPHOST:" + stem + ".so";
    return SUCCESS;
}
// Sizes of texts count the closing zero; the CUBIN has one too, so that the driver finds its end.
static int size_of(const std::string& text, size_t* bytes) { *bytes = text.size() + 1; return SUCCESS; }
static int give(const std::string& text, char* to) { memcpy(to, text.c_str(), text.size() + 1); return SUCCESS; }
API nvrtcGetProgramLogSize(void* p, size_t* bytes) { return size_of(static_cast<Program*>(p)->log, bytes); }
API nvrtcGetProgramLog(void* p, char* to) { return give(static_cast<Program*>(p)->log, to); }
API nvrtcGetCUBINSize(void* p, size_t* bytes) {
    const std::string& cubin = static_cast<Program*>(p)->cubin;
    return cubin.empty() ? int(INVALID_PROGRAM) : size_of(cubin, bytes);
}
API nvrtcGetCUBIN(void* p, char* to) { return give(static_cast<Program*>(p)->cubin, to); }
API nvrtcGetPTXSize(void* p, size_t* bytes) { return nvrtcGetCUBINSize(p, bytes); }
API nvrtcGetPTX(void* p, char* to) { return nvrtcGetCUBIN(p, to); }
