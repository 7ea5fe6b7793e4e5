// How the planes, boxes and rows of a call are shared out among threads, and the memory that they keep. Included by
// kernels.inl.
//
// Where there are enough planes, a thread does a whole plane: its integral image stays in cache. Else the integral
// image is built by all threads, and boxes and bands of rows are shared out. What is added to what, in which order,
// never depends on the threads.

constexpr int64_t ENOUGH_PLANES = 8;

struct Failure {
  volatile int32_t happened = 0;
};

// Run body(begin, end) over [0, count) on the caller's thread pool.
template <typename Body>
void parallel(const BoxProblem& problem, int64_t count, const Body& body) {
  if (count <= 0) return;
  if (!problem.parallel_for || problem.threads <= 1 || count == 1) return body(0, count);
  problem.parallel_for(
      0, count, 1,
      [](int64_t begin, int64_t end, void* context) { (*static_cast<const Body*>(context))(begin, end); },
      const_cast<Body*>(&body));
}

// Of a thread that works on a plane, and of the thread that called and shares its integral images with the others.
inline Scratch& thread_scratch() {
  static thread_local Scratch scratch;
  return scratch;
}

inline Scratch& shared_scratch() {
  static thread_local Scratch scratch;
  return scratch;
}

// Who works on a plane: this thread, or all of them.
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
