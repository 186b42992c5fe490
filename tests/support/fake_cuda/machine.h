// The simulated machines, their handles, and how a call begins.
#pragma once

#include <dlfcn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))

namespace {

using Address = unsigned long long;
using Handle = void*;
using std::shared_ptr;

enum Result {
    SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100,
    INVALID_DEVICE = 101, INVALID_IMAGE = 200, INVALID_CONTEXT = 201, INVALID_HANDLE = 400,
    NOT_FOUND = 500, NOT_READY = 600, CONTEXT_IS_DESTROYED = 709, LAUNCH_FAILED = 719,
    NOT_SUPPORTED = 801, CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901,
};
const std::map<int, const char*> WORDS = {
    {INVALID_VALUE, "invalid argument"}, {OUT_OF_MEMORY, "out of memory"},
    {NOT_INITIALIZED, "initialization error"}, {34, "CUDA driver is a stub library"},
    {NO_DEVICE, "no CUDA-capable device is detected"}, {INVALID_DEVICE, "invalid device ordinal"},
    {INVALID_IMAGE, "device kernel image is invalid"}, {INVALID_CONTEXT, "invalid device context"},
    {INVALID_HANDLE, "invalid resource handle"}, {NOT_FOUND, "named symbol not found"},
    {NOT_READY, "device not ready"}, {CONTEXT_IS_DESTROYED, "context is destroyed"},
    {LAUNCH_FAILED, "unspecified launch failure"}, {NOT_SUPPORTED, "operation not supported"},
    {802, "system not yet initialized"},
    {803, "system has unsupported display driver / cuda driver combination"},
    {CAPTURE_UNSUPPORTED, "operation not permitted when stream is capturing"},
    {CAPTURE_INVALIDATED, "operation failed due to a previous error during capture"},
};
constexpr unsigned char FRESH = 0xCD, FREED = 0xDD, BEHIND = 0xEE;
constexpr size_t ALIGNMENT = 512, GUARD = 64, KEPT = 64 << 20;

struct Context { int retained = 0; };
struct Work { std::function<void()> run; uint64_t mark = 0; };
struct Stream {
    std::deque<Work> queue;
    std::vector<Work> captured;
    bool capturing = false, spoilt = false;
};
struct Event { shared_ptr<Stream> stream; uint64_t mark = 0, reached = 0; double time = 0; };
struct Parameter { size_t size, alignment; };
struct Kernel { std::string name; std::vector<Parameter> parameters; };
struct Module { std::map<std::string, Kernel> kernels; };
struct Graph { std::vector<Work> work; };
struct Block { size_t bytes; bool mapped; };
using Blocks = std::map<Address, Block>;

template <typename T>
using Handles = std::map<Handle, shared_ptr<T>>;

struct Machine {
    std::string name;
    int major = 0, minor = 0, version = 12060, init = SUCCESS;
    bool integrated = false, lost = false, uncapturable = false, initialised = false;
    size_t capacity = 0;
    std::vector<Context> contexts;  // one a device
    Blocks memory, pinned;
    std::deque<std::pair<Address, size_t>> freed;
    Handles<Stream> streams;
    Handles<Event> events;
    Handles<Module> modules;
    Handles<Graph> graphs, executables;
    int64_t pushed = 0, launched = 0, abandoned = 0;
    double clock = 0;
    std::vector<std::string> misuse;
};

std::recursive_mutex everything;
std::vector<std::unique_ptr<Machine>> machines;  // one within another; the last is used
std::vector<std::unique_ptr<Machine>> ended;     // whoever still holds what is theirs is let be
uint64_t marks = 0;
thread_local std::vector<Context*> current;
thread_local Stream* captured_here = nullptr;

int (*host_launch)(const char*, const unsigned*, const unsigned*, int, void**, const int*);
int (*host_parameters)(const char*, int, size_t*, size_t*);

Machine& machine() {
    if (machines.empty()) machines.push_back(std::make_unique<Machine>());  // no device
    return *machines.back();
}

__attribute__((format(printf, 2, 3))) Result misuse(Result result, const char* words, ...) {
    char text[256];
    va_list arguments;
    va_start(arguments, words);
    vsnprintf(text, sizeof text, words, arguments);
    va_end(arguments);
    machine().misuse.push_back(text);
    return result;
}

// One call at a time. Work of TensorRT's stand-in is Python, in whichever thread runs it: so a
// thread that holds Python's lock, as PyCUDA's do, gives it up before it waits here.
class Call {
  public:
    Call() : python_(released()), lock_(everything) {}
    ~Call() {
        lock_.unlock();
        if (python_ != nullptr) function<void(void*)>("PyEval_RestoreThread")(python_);
    }

  private:
    template <typename F>
    static F* function(const char* name) {
        return reinterpret_cast<F*>(dlsym(RTLD_DEFAULT, name));
    }
    static void* released() {
        static const auto held = function<int()>("PyGILState_Check");
        return held != nullptr && held() ? function<void*()>("PyEval_SaveThread")() : nullptr;
    }

    void* python_;
    std::unique_lock<std::recursive_mutex> lock_;
};

bool in_context() {
    for (auto& each : machine().contexts)
        if (!current.empty() && current.back() == &each && each.retained > 0) return true;
    return false;
}

// What each call that needs the device begins with.
#define ON_DEVICE                                                                               \
    Call call;                                                                                  \
    if (machine().lost) return LAUNCH_FAILED;                                                   \
    if (!in_context()) return misuse(INVALID_CONTEXT, "%s: no context is current", __func__)

// As ON_DEVICE, for what may wait for the device. A thread that captures must not.
#define WAITING                                                                                 \
    ON_DEVICE;                                                                                  \
    if (captured_here != nullptr) {                                                             \
        captured_here->spoilt = true;                                                           \
        return misuse(CAPTURE_UNSUPPORTED, "%s: during a capture", __func__);                   \
    }                                                                                           \
    static_assert(true)

// The object of a handle, or misuse.
#define FIND(NAME, HANDLES, HANDLE)                                                             \
    const auto NAME = find(machine().HANDLES, HANDLE);                                          \
    if (NAME == nullptr) return misuse(INVALID_HANDLE, "%s: not one of the " #HANDLES, __func__)

template <typename T>
shared_ptr<T> find(const Handles<T>& handles, Handle handle) {
    const auto found = handles.find(handle);
    return found == handles.end() ? nullptr : found->second;
}

template <typename T>
Handle keep(Handles<T>& handles, shared_ptr<T> made) {
    handles[made.get()] = made;
    return made.get();
}

// What is freed is gone even if the device is lost, and that is said.
template <typename T>
Result drop(Handles<T>& handles, Handle handle, const char* call) {
    if (!in_context()) misuse(SUCCESS, "%s: no context is current", call);
    if (handles.erase(handle) == 0) return misuse(INVALID_HANDLE, "%s: not there", call);
    return machine().lost ? LAUNCH_FAILED : SUCCESS;
}

}  // namespace
