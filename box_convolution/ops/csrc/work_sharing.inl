// How the planes, boxes and rows of a call are shared out among threads, and the memory that threads keep. Included by
// kernels.inl.
//
// If there are enough planes, each thread computes whole planes, so that their integral images stay in its cache. Else all
// threads build one integral image together, and then share out its boxes and bands of rows. Neither which numbers are
// added nor their order depends on the number of threads.

constexpr int64_t ENOUGH_PLANES = 8;

struct Failure {
  volatile int32_t happened = 0;
};

// Run body(begin, end) over [0, count) on the caller's thread pool.
template <typename Call, typename Body>
void parallel(const Call& call, int64_t count, const Body& body) {
  if (count <= 0) return;
  if (!call.parallel_for || call.threads <= 1 || count == 1) return body(0, count);
  call.parallel_for(
      0, count, 1,
      [](int64_t begin, int64_t end, void* context) { (*static_cast<const Body*>(context))(begin, end); },
      const_cast<Body*>(&body));
}

// The first is for what only its thread uses; the second is for what the calling thread shares with the others.
inline Scratch& thread_scratch() {
  static thread_local Scratch scratch;
  return scratch;
}

inline Scratch& shared_scratch() {
  static thread_local Scratch scratch;
  return scratch;
}

// Who works on a plane: this thread alone, or all threads.
struct Team {
  const BoxProblem& problem;
  bool all_threads;

  template <typename Body>
  void share(int64_t count, const Body& body) const {
    if (all_threads)
      parallel(problem, count, body);
    else
      body(0, count);
  }
};
