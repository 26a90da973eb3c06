// Atomic operations, and the hooks of the checked mode. One thread runs at a time: an atomic is a plain read and write.
#pragma once
#ifdef BP_CHECK
#define BP_PLAIN BP_UNCHECKED __attribute__((noinline)) static
#define BP_ATOMIC(p) bp::runtime.access(bp::now.state, (const void*)(p), sizeof *(p), bp::ATOMIC)
#else
#define BP_PLAIN static inline
#define BP_ATOMIC(p) (void)0
#endif
namespace bp {
template <class T> struct Same { typedef T type; };
}
#define BP_READ_MODIFY_WRITE(name, next) \
    template <class T> BP_PLAIN T name(T* p, typename bp::Same<T>::type v) { BP_ATOMIC(p); T old = *p; *p = next; return old; } \
    template <class T> BP_PLAIN T name##_block(T* p, typename bp::Same<T>::type v) { return name(p, v); }
BP_READ_MODIFY_WRITE(atomicAdd, old + v)
BP_READ_MODIFY_WRITE(atomicSub, old - v)
BP_READ_MODIFY_WRITE(atomicMax, old < v ? v : old)
BP_READ_MODIFY_WRITE(atomicMin, v < old ? v : old)
BP_READ_MODIFY_WRITE(atomicOr, old | v)
BP_READ_MODIFY_WRITE(atomicAnd, old & v)
BP_READ_MODIFY_WRITE(atomicXor, old ^ v)
BP_READ_MODIFY_WRITE(atomicExch, v)
BP_READ_MODIFY_WRITE(atomicInc, old >= v ? 0 : old + 1)
template <class T> BP_PLAIN T atomicCAS(T* p, typename bp::Same<T>::type expected, typename bp::Same<T>::type v) {
    BP_ATOMIC(p);
    T old = *p;
    if (old == expected) *p = v;
    return old;
}
template <class T> static inline T __ldg(const T* p) { return *p; }
template <class T> static inline T __ldcg(const T* p) { return *p; }
template <class T> static inline T __ldcs(const T* p) { return *p; }
template <class T> static inline void __stcs(T* p, typename bp::Same<T>::type v) { *p = v; }
template <class T> static inline void __stcg(T* p, typename bp::Same<T>::type v) { *p = v; }

#ifdef BP_CHECK
// The compiler calls these before every access to memory (-fsanitize=thread); its own library is never linked.
// A thread's position is read so often that it is let through here.
#define BP_HOOK(name, bytes, kind) extern "C" __attribute__((no_sanitize_thread, visibility("hidden"), used)) void __tsan_##name(void* p) { \
    if ((unsigned long)p - (unsigned long)&bp::now >= sizeof bp::now) bp::runtime.access(bp::now.state, p, bytes, bp::kind); \
}
#define BP_HOOKS(n) BP_HOOK(read##n, n, READ) BP_HOOK(write##n, n, WRITE) BP_HOOK(unaligned_read##n, n, READ) BP_HOOK(unaligned_write##n, n, WRITE) \
    BP_HOOK(volatile_read##n, n, VOLATILE_READ) BP_HOOK(volatile_write##n, n, VOLATILE_WRITE) \
    BP_HOOK(unaligned_volatile_read##n, n, VOLATILE_READ) BP_HOOK(unaligned_volatile_write##n, n, VOLATILE_WRITE)
BP_HOOKS(1) BP_HOOKS(2) BP_HOOKS(4) BP_HOOKS(8) BP_HOOKS(16)
#define BP_HIDDEN extern "C" __attribute__((no_sanitize_thread, visibility("hidden"), used))
BP_HIDDEN void __tsan_init() {}
BP_HIDDEN void __tsan_func_entry(void*) {}
BP_HIDDEN void __tsan_func_exit() {}
BP_HIDDEN void __tsan_read_range(void* p, unsigned long n) { bp::runtime.access(bp::now.state, p, unsigned(n), bp::READ); }
BP_HIDDEN void __tsan_write_range(void* p, unsigned long n) { bp::runtime.access(bp::now.state, p, unsigned(n), bp::WRITE); }
#endif
