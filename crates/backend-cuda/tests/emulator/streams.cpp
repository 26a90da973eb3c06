// The fake driver's streams, events, captures and graphs. Outside of a capture work is done at once, so that streams are always idle.
#include "driver.h"
#include <algorithm>
#include <utility>

using namespace bp;
namespace bp {
Stream* stream_of(void* handle) {
    static auto* legacy = new Stream;
    return reinterpret_cast<uintptr_t>(handle) < 3 ? legacy : static_cast<Stream*>(handle);   // 0, 1, 2: the default streams
}

static std::vector<std::weak_ptr<Capture>>& captures() {
    static auto* all = new std::vector<std::weak_ptr<Capture>>;
    return *all;
}

int forbidden_in_capture() {
    std::lock_guard<std::mutex> hold(driver_lock());
    for (auto& weak : captures())
        if (auto c = weak.lock())
            if (c->mode == 0 || (c->mode == 1 && c->thread == std::this_thread::get_id())) {
                c->broken = true;
                return CAPTURE_UNSUPPORTED;
            }
    return SUCCESS;
}

int submit(void* handle, Node node) {
    Stream* s = stream_of(handle);
    if (!s->capture) {
        int wrong = perform(node);
        s->failed |= wrong != SUCCESS;
        return wrong;
    }
    if (s->capture->broken) return CAPTURE_INVALIDATED;
    node.after.assign(s->tail.begin(), s->tail.end());
    s->tail = {s->capture->nodes.size()};
    s->capture->nodes.push_back(std::move(node));
    return SUCCESS;
}

// Any order that the nodes' dependencies allow must give the same: the thread order chooses one, so that a missing wait shows.
static std::vector<size_t> replay_order(const std::vector<Node>& nodes) {
    const std::string name = setting("ORDER");
    const bool last_first = name == "backward", shuffled = name == "random" || name == "rotate";
    std::vector<size_t> waits(nodes.size()), ready, order;
    for (size_t i = 0; i < nodes.size(); i++) if (!(waits[i] = nodes[i].after.size())) ready.push_back(i);
    u64 random = 0x9e3779b97f4a7c15ull;
    while (!ready.empty()) {
        random = random * 6364136223846793005ull + 1442695040888963407ull;
        auto at = last_first ? std::max_element(ready.begin(), ready.end()) : shuffled ? ready.begin() + long((random >> 33) % ready.size()) : std::min_element(ready.begin(), ready.end());
        const size_t done = *at;
        ready.erase(at);
        order.push_back(done);
        for (size_t i = done + 1; i < nodes.size(); i++)
            if (std::find(nodes[i].after.begin(), nodes[i].after.end(), done) != nodes[i].after.end() && --waits[i] == 0) ready.push_back(i);
    }
    return order;
}

// Whether every node is reached from the origin's last ones: else some stream was forked and never joined.
static bool joined(const Capture& c) {
    std::vector<bool> seen(c.nodes.size());
    for (size_t i : c.origin->tail) seen[i] = true;
    for (size_t i = c.nodes.size(); i-- > 0;) {
        if (!seen[i]) return false;
        for (size_t before : c.nodes[i].after) seen[before] = true;
    }
    return true;
}
}  // namespace bp

API cuStreamCreateWithPriority(void** s, unsigned flags, int priority) {
    auto* made = new Stream;
    made->priority = priority;
    made->flags = flags;
    *s = made;
    return SUCCESS;
}
API cuStreamCreate(void** s, unsigned flags) { return cuStreamCreateWithPriority(s, flags, 0); }
API cuStreamGetPriority(void* s, int* priority) { *priority = stream_of(s)->priority; return SUCCESS; }
API cuStreamGetFlags(void* s, unsigned* flags) { *flags = stream_of(s)->flags; return SUCCESS; }
API cuStreamDestroy_v2(void* s) {
    Stream* stream = static_cast<Stream*>(s);
    if (stream->capture) stream->capture->broken = true;
    delete stream;
    return SUCCESS;
}
API cuStreamQuery(void* handle) {
    Stream* s = stream_of(handle);
    if (s->capture) {
        s->capture->broken = true;
        return CAPTURE_UNSUPPORTED;
    }
    return std::exchange(s->failed, false) ? LAUNCH_FAILED : SUCCESS;
}
API cuStreamSynchronize(void* handle) {
    if (stream_of(handle)->capture) return cuStreamQuery(handle);
    if (int wrong = forbidden_in_capture()) return wrong;
    return cuStreamQuery(handle);
}

API cuEventCreate(void** e, unsigned) { *e = new Event; return SUCCESS; }
API cuEventDestroy_v2(void* e) { delete static_cast<Event*>(e); return SUCCESS; }
API cuEventRecord(void* event, void* handle) {
    Event* e = static_cast<Event*>(event);
    Stream* s = stream_of(handle);
    e->recorded = true;
    e->captured = bool(s->capture);
    e->capture = s->capture;
    e->tail = s->tail;
    e->at = std::chrono::steady_clock::now();
    return SUCCESS;
}
API cuEventRecordWithFlags(void* event, void* s, unsigned) { return cuEventRecord(event, s); }
API cuEventQuery(void* event) {
    Event* e = static_cast<Event*>(event);
    if (!e->captured) return SUCCESS;
    if (auto c = e->capture.lock()) c->broken = true;
    return CAPTURED_EVENT;
}
API cuEventSynchronize(void* event) {
    if (int wrong = forbidden_in_capture()) return wrong;
    return cuEventQuery(event);
}
API cuEventElapsedTime_v2(float* ms, void* from, void* to) {
    Event *a = static_cast<Event*>(from), *b = static_cast<Event*>(to);
    if (!a->recorded || !b->recorded || a->captured || b->captured) return INVALID_HANDLE;
    *ms = std::chrono::duration<float, std::milli>(b->at - a->at).count();
    return SUCCESS;
}
API cuEventElapsedTime(float* ms, void* from, void* to) { return cuEventElapsedTime_v2(ms, from, to); }
API cuStreamWaitEvent(void* handle, void* event, unsigned) {
    Stream* s = stream_of(handle);
    Event* e = static_cast<Event*>(event);
    if (!e->captured) {
        if (!s->capture || !e->recorded) return SUCCESS;
        s->capture->broken = true;     // work of before the capture cannot be waited for inside of it
        return 905;
    }
    auto c = e->capture.lock();
    if (!c) return INVALID_VALUE;
    if (s->capture && s->capture != c) return CAPTURE_MERGE;
    s->capture = c;
    c->streams.insert(s);
    s->tail.insert(e->tail.begin(), e->tail.end());
    return SUCCESS;
}

API cuStreamBeginCapture_v2(void* handle, int mode) {
    Stream* s = stream_of(handle);
    if (reinterpret_cast<uintptr_t>(handle) < 3) return CAPTURE_UNSUPPORTED;
    if (s->capture) return 401;
    std::lock_guard<std::mutex> hold(driver_lock());
    s->capture = std::make_shared<Capture>(Capture{s, {}, {s}, mode, std::this_thread::get_id()});
    s->tail.clear();
    captures().push_back(s->capture);
    return SUCCESS;
}
API cuStreamIsCapturing(void* handle, int* status) {
    auto& c = stream_of(handle)->capture;
    *status = !c ? 0 : c->broken ? 2 : 1;
    return SUCCESS;
}
API cuStreamGetCaptureInfo_v3(void* handle, int* status, u64* id, void** graph, void*, void*, size_t* n) {
    if (id) *id = 1;
    if (graph) *graph = nullptr;
    if (n) *n = 0;
    return cuStreamIsCapturing(handle, status);
}
API cuStreamEndCapture(void* handle, void** graph) {
    Stream* s = stream_of(handle);
    *graph = nullptr;
    auto c = s->capture;
    if (!c) return 401;
    if (c->origin != s) return CAPTURE_UNMATCHED;
    if (c->mode != 2 && c->thread != std::this_thread::get_id()) return CAPTURE_WRONG_THREAD;
    const bool whole = joined(*c);
    for (Stream* member : c->streams) {
        member->capture.reset();
        member->tail.clear();
    }
    std::lock_guard<std::mutex> hold(driver_lock());
    auto& all = captures();
    all.erase(std::remove_if(all.begin(), all.end(), [&](auto& weak) { auto o = weak.lock(); return !o || o == c; }), all.end());
    if (c->broken) return CAPTURE_INVALIDATED;
    if (!whole) return CAPTURE_UNJOINED;
    *graph = new Graph{std::move(c->nodes)};
    return SUCCESS;
}

API cuGraphGetNodes(void* graph, void** nodes, size_t* n) {
    auto& all = static_cast<Graph*>(graph)->nodes;
    if (nodes) for (size_t i = 0; i < std::min(*n, all.size()); i++) nodes[i] = &all[i];
    *n = all.size();
    return SUCCESS;
}
API cuGraphDestroy(void* graph) { delete static_cast<Graph*>(graph); return SUCCESS; }
API cuGraphInstantiateWithFlags(void** exec, void* graph, u64) {
    auto& nodes = static_cast<Graph*>(graph)->nodes;
    auto* made = new Graph;
    for (size_t i : replay_order(nodes)) made->nodes.push_back(nodes[i]);
    *exec = made;
    return SUCCESS;
}
API cuGraphExecDestroy(void* exec) { delete static_cast<Graph*>(exec); return SUCCESS; }
API cuGraphUpload(void*, void*) { return SUCCESS; }
API cuGraphLaunch(void* exec, void* handle) {
    Stream* s = stream_of(handle);
    if (s->capture) {
        s->capture->broken = true;     // a child graph: not needed so far
        return CAPTURE_UNSUPPORTED;
    }
    count("graph launches");
    for (const Node& n : static_cast<Graph*>(exec)->nodes)
        if (int wrong = perform(n)) {
            s->failed = true;
            return wrong;
        }
    return SUCCESS;
}
