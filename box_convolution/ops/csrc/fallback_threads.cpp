#include "fallback_threads.h"

#if defined(_WIN32)
#include <process.h>
#include <windows.h>
#else
#include <pthread.h>
#endif

#if defined(__GLIBC__)
// The library must load on systems older than the one that it was built on.
#if defined(__x86_64__)
// glibc 2.34 gave these functions new symbol versions without changing them: the old ones are everywhere.
__asm__(".symver pthread_create, pthread_create@GLIBC_2.2.5");
__asm__(".symver pthread_join, pthread_join@GLIBC_2.2.5");
#endif
// The only function of libstdc++ that a thread_local destructor needs: defined here, so that libstdc++ is not linked.
extern "C" int __cxa_thread_atexit_impl(void (*)(void*), void*, void*);
extern "C" __attribute__((visibility("hidden"))) int __cxa_thread_atexit(void (*destroy)(void*), void* object, void* library) {
  return __cxa_thread_atexit_impl(destroy, object, library);
}
#endif

namespace box {

thread_local int32_t fan_out_threads = 1;

namespace {

struct Share {
  int64_t begin, end;
  BoxBody body;
  void* context;
  void run() const { body(begin, end, context); }
};

#if defined(_WIN32)
typedef HANDLE Thread;
unsigned __stdcall run_share(void* share) {
  static_cast<Share*>(share)->run();
  return 0;
}
bool start(Thread* thread, Share* share) {
  *thread = reinterpret_cast<HANDLE>(_beginthreadex(nullptr, 0, run_share, share, 0, nullptr));
  return *thread != nullptr;
}
void join(Thread thread) {
  WaitForSingleObject(thread, INFINITE);
  CloseHandle(thread);
}
#else
typedef pthread_t Thread;
void* run_share(void* share) {
  static_cast<Share*>(share)->run();
  return nullptr;
}
bool start(Thread* thread, Share* share) { return pthread_create(thread, nullptr, run_share, share) == 0; }
void join(Thread thread) { pthread_join(thread, nullptr); }
#endif

}  // namespace

int32_t fan_out(int64_t begin, int64_t end, int64_t grain, BoxBody body, void* context) {
  constexpr int64_t MOST = 256;
  const int64_t size = end - begin, by_grain = size / (grain > 1 ? grain : 1);
  int64_t count = fan_out_threads < MOST ? fan_out_threads : MOST;
  if (count > by_grain) count = by_grain;
  if (count <= 1) {
    if (size > 0) body(begin, end, context);
    return 0;
  }
  Share shares[MOST];
  Thread threads[MOST];
  bool started[MOST];
  for (int64_t k = 0; k < count; ++k) {
    // The first size % count shares are longer by one.
    const int64_t longer = k < size % count ? k : size % count;
    const int64_t first = begin + size / count * k + longer;
    shares[k] = {first, first + size / count + (k < size % count), body, context};
    started[k] = k > 0 && start(&threads[k], &shares[k]);
  }
  for (int64_t k = 0; k < count; ++k)
    if (!started[k]) shares[k].run();
  for (int64_t k = 1; k < count; ++k)
    if (started[k]) join(threads[k]);
  return 0;
}

}  // namespace box
