// GCC before version 12 has no __builtin_shufflevector.
#pragma once

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 12
typedef long long BoxLanes __attribute__((vector_size(64)));
#define __builtin_shufflevector(a, b, ...) __builtin_shuffle(a, b, BoxLanes{__VA_ARGS__})
#endif
