// A libcuda.so.1 without a GPU: device memory is the host's, kernels those of host_kernels.cpp.
//
// Queued work runs as late as it may, when something waits for it. So code that reads a result too
// early, or overwrites what is still needed, gets wrong masks every time. Calls that a GPU would
// refuse, or would compute nonsense from, are noted as misuse. Tests call the functions fake_….

#include "control.h"

API int cuGetErrorString(int code, const char** words) {
    const auto found = WORDS.find(code);
    *words = found == WORDS.end() ? nullptr : found->second;
    return found == WORDS.end() ? INVALID_VALUE : SUCCESS;
}
API int cuGetErrorName(int code, const char** words) { return cuGetErrorString(code, words); }

API int cuDriverGetVersion(int* version) {
    Call call;
    if (machine().version < 0) return -machine().version;
    *version = machine().version;
    return SUCCESS;
}

API int cuInit(unsigned) {
    Call call;
    if (machine().init != SUCCESS) return machine().init;
    if (machine().contexts.empty() || machine().lost) return NO_DEVICE;
    machine().initialised = true;
    return SUCCESS;
}

API int cuDeviceGetCount(int* count) {
    Call call;
    *count = static_cast<int>(machine().contexts.size());
    return machine().initialised ? SUCCESS : NOT_INITIALIZED;
}

API int cuDeviceGet(int* device, int index) {
    Call call;
    *device = index;
    if (!machine().initialised) return NOT_INITIALIZED;
    return static_cast<size_t>(index) < machine().contexts.size() ? SUCCESS : INVALID_DEVICE;
}

API int cuDeviceGetName(char* text, int bytes, int) {
    Call call;
    snprintf(text, static_cast<size_t>(bytes), "%s", machine().name.c_str());
    return SUCCESS;
}

API int cuDeviceGetAttribute(int* value, int attribute, int) {
    Call call;
    const auto& here = machine();
    *value = attribute == 75   ? here.major
             : attribute == 76 ? here.minor
             : attribute == 18 ? here.integrated
                               : 1;
    return SUCCESS;
}

API int cuDeviceComputeCapability(int* major, int* minor, int) {
    Call call;
    *major = machine().major;
    *minor = machine().minor;
    return SUCCESS;
}

API int cuDevicePrimaryCtxRetain(Handle* context, int device) {
    Call call;
    if (machine().lost) return LAUNCH_FAILED;
    auto& retained = machine().contexts.at(static_cast<size_t>(device));
    ++retained.retained;
    *context = &retained;
    return SUCCESS;
}

API int cuDevicePrimaryCtxRelease_v2(int device) {
    Call call;
    auto& context = machine().contexts.at(static_cast<size_t>(device));
    if (context.retained == 0) return misuse(INVALID_CONTEXT, "%s: not retained", __func__);
    --context.retained;
    abandon();
    return machine().lost ? LAUNCH_FAILED : SUCCESS;
}

API int cuCtxPushCurrent_v2(Handle context) {
    Call call;
    for (auto& each : machine().contexts)
        if (&each == context) {
            current.push_back(&each);
            ++machine().pushed;
            return SUCCESS;
        }
    return CONTEXT_IS_DESTROYED;
}

API int cuCtxPopCurrent_v2(Handle* context) {
    Call call;
    if (current.empty()) return misuse(INVALID_CONTEXT, "%s: no context is current", __func__);
    *context = current.back();
    current.pop_back();
    --machine().pushed;
    return SUCCESS;
}

API int cuCtxGetCurrent(Handle* context) {
    *context = current.empty() ? nullptr : current.back();
    return SUCCESS;
}

API int cuCtxGetDevice(int* device) {
    ON_DEVICE;
    *device = static_cast<int>(current.back() - machine().contexts.data());
    return SUCCESS;
}

API int cuCtxSynchronize() {
    WAITING;
    for (const auto& [handle, stream] : machine().streams) run(*stream);
    return SUCCESS;
}

API int cuMemGetInfo_v2(size_t* available, size_t* total) {
    ON_DEVICE;
    *total = machine().capacity;
    *available = *total - used(machine().memory);
    return SUCCESS;
}

API int cuMemAlloc_v2(Address* address, size_t bytes) {
    WAITING;
    if (bytes == 0) return INVALID_VALUE;
    if (bytes > machine().capacity - used(machine().memory)) return OUT_OF_MEMORY;
    *address = allocate(machine().memory, bytes, false);
    return SUCCESS;
}

API int cuMemFree_v2(Address address) {
    Call call;
    if (!machine().lost) { WAITING; }
    return release(machine().memory, address, __func__);
}

API int cuMemHostAlloc(void** start, size_t bytes, unsigned flags) {
    WAITING;
    if (bytes == 0) return INVALID_VALUE;
    *start = reinterpret_cast<void*>(allocate(machine().pinned, bytes, (flags & 2) != 0));
    return SUCCESS;
}

API int cuMemFreeHost(void* start) {
    Call call;
    if (!machine().lost) { WAITING; }
    return release(machine().pinned, reinterpret_cast<Address>(start), __func__);
}

API int cuMemHostGetDevicePointer_v2(Address* address, void* start, unsigned) {
    ON_DEVICE;
    *address = reinterpret_cast<Address>(start);
    if (!holds(machine().pinned, *address, 1, true))
        return misuse(INVALID_VALUE, "%s: not mapped for the device", __func__);
    return SUCCESS;
}

API int cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t bytes, Handle stream) {
    ON_DEVICE;
    const auto source = reinterpret_cast<Address>(from);
    return copy(__func__, stream, to, on_device, source, page_locked, bytes);
}

API int cuMemcpyDtoHAsync_v2(void* to, Address from, size_t bytes, Handle stream) {
    ON_DEVICE;
    const auto target = reinterpret_cast<Address>(to);
    return copy(__func__, stream, target, page_locked, from, on_device, bytes);
}

API int cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, Handle stream) {
    ON_DEVICE;
    return copy(__func__, stream, to, on_device, from, on_device, bytes);
}

API int cuStreamCreate(Handle* stream, unsigned flags) {
    ON_DEVICE;
    if (flags != 1) misuse(SUCCESS, "%s: it waits for the default stream", __func__);
    *stream = keep(machine().streams, std::make_shared<Stream>());
    return SUCCESS;
}

API int cuStreamSynchronize(Handle handle) {
    ON_DEVICE;
    FIND(stream, streams, handle);
    if (stream->capturing) {
        stream->spoilt = true;
        return misuse(CAPTURE_UNSUPPORTED, "%s: during its capture", __func__);
    }
    run(*stream);
    return SUCCESS;
}

API int cuStreamDestroy_v2(Handle handle) {
    Call call;
    const auto stream = find(machine().streams, handle);
    if (stream != nullptr && !machine().lost) run(*stream);
    return drop(machine().streams, handle, __func__);
}

API int cuStreamBeginCapture_v2(Handle handle, int mode) {
    ON_DEVICE;
    FIND(stream, streams, handle);
    if (mode != 1) misuse(SUCCESS, "%s: other threads disturb this capture", __func__);
    stream->capturing = true;
    stream->spoilt = machine().uncapturable;
    captured_here = stream.get();
    return SUCCESS;
}

API int cuStreamEndCapture(Handle handle, Handle* graph) {
    Call call;
    FIND(stream, streams, handle);
    if (!stream->capturing) return misuse(INVALID_VALUE, "%s: no capture", __func__);
    captured_here = nullptr;
    stream->capturing = false;
    const auto made = std::make_shared<Graph>();
    made->work.swap(stream->captured);
    *graph = nullptr;
    if (machine().lost) return LAUNCH_FAILED;
    if (stream->spoilt) return CAPTURE_INVALIDATED;
    *graph = keep(machine().graphs, made);
    return SUCCESS;
}

API int cuGraphInstantiateWithFlags(Handle* executable, Handle handle, unsigned long long) {
    ON_DEVICE;
    FIND(graph, graphs, handle);
    *executable = keep(machine().executables, std::make_shared<Graph>(*graph));
    return SUCCESS;
}

API int cuGraphLaunch(Handle handle, Handle on) {
    ON_DEVICE;
    FIND(graph, executables, handle);
    FIND(stream, streams, on);
    for (const auto& work : graph->work) enqueue(*stream, work);
    ++machine().launched;
    return SUCCESS;
}

API int cuGraphExecDestroy(Handle executable) {
    Call call;
    return drop(machine().executables, executable, __func__);
}

API int cuGraphDestroy(Handle graph) {
    Call call;
    return drop(machine().graphs, graph, __func__);
}

API int cuEventCreate(Handle* event, unsigned) {
    ON_DEVICE;
    *event = keep(machine().events, std::make_shared<Event>());
    return SUCCESS;
}

API int cuEventRecord(Handle handle, Handle on) {
    ON_DEVICE;
    FIND(event, events, handle);
    FIND(stream, streams, on);
    const auto mark = event->mark = ++marks;
    event->stream = stream;
    auto& here = machine();
    enqueue(*stream, {[=, &here] { event->reached = mark; event->time = ++here.clock; }, mark});
    return SUCCESS;
}

API int cuEventSynchronize(Handle handle) {
    ON_DEVICE;
    FIND(event, events, handle);
    if (event->reached != event->mark) run(*event->stream, event->mark);
    return SUCCESS;
}

API int cuEventElapsedTime(float* milliseconds, Handle start, Handle end) {
    ON_DEVICE;
    FIND(first, events, start);
    FIND(last, events, end);
    if (first->mark == 0 || last->mark == 0)
        return misuse(INVALID_HANDLE, "%s: not recorded", __func__);
    if (first->reached != first->mark || last->reached != last->mark)
        return misuse(NOT_READY, "%s: not reached", __func__);
    *milliseconds = static_cast<float>(last->time - first->time);
    return SUCCESS;
}
API int cuEventElapsedTime_v2(float* milliseconds, Handle start, Handle end) {
    return cuEventElapsedTime(milliseconds, start, end);
}

API int cuEventDestroy_v2(Handle event) {
    Call call;
    return drop(machine().events, event, __func__);
}

API int cuModuleLoadData(Handle* module, const void* image) {
    WAITING;
    if (memcmp(image, "\x7f" "ELF", 4) != 0) return INVALID_IMAGE;
    *module = keep(machine().modules, std::make_shared<Module>());
    return SUCCESS;
}
API int cuModuleLoadDataEx(Handle* module, const void* image, unsigned, int*, void**) {
    return cuModuleLoadData(module, image);
}

API int cuModuleUnload(Handle module) {
    Call call;
    return drop(machine().modules, module, __func__);
}

API int cuModuleGetFunction(Handle* function, Handle handle, const char* name) {
    ON_DEVICE;
    FIND(module, modules, handle);
    Kernel kernel{name, {}};
    if (!find_parameters(kernel)) return NOT_FOUND;
    *function = &module->kernels.emplace(name, kernel).first->second;
    return SUCCESS;
}

// PyCUDA sets it before each launch, which says it again.
API int cuFuncSetBlockShape(Handle, int, int, int) { return SUCCESS; }

API int cuLaunchKernel(Handle function, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                       unsigned by, unsigned bz, unsigned, Handle on, void** arguments,
                       void** extra) {
    ON_DEVICE;
    FIND(stream, streams, on);
    const Kernel* kernel = nullptr;
    for (const auto& [handle, module] : machine().modules)
        for (const auto& [name, each] : module->kernels)
            if (&each == function) kernel = &each;
    if (kernel == nullptr) return misuse(INVALID_HANDLE, "%s: not a kernel", __func__);
    const auto* name = kernel->name.c_str();
    if (gx == 0 || gy == 0 || gz == 0 || gx > 0x7fffffff || gy > 65535 || gz > 65535 || bx == 0 ||
        by == 0 || bz == 0 || bx * by * bz > 1024)
        return misuse(INVALID_VALUE, "%s: grid %u %u %u of %u %u %u", name, gx, gy, gz, bx, by, bz);
    Values values;
    if (!take_arguments(*kernel, arguments, extra, values))
        return misuse(INVALID_VALUE, "%s: its packed arguments have another size", name);
    check_addresses(*kernel, values);
    enqueue(*stream, {[=, copied = *kernel]() mutable {
                const unsigned grid[] = {gx, gy, gz}, block[] = {bx, by, bz};
                run_kernel(copied, grid, block, values);
            }});
    return SUCCESS;
}
