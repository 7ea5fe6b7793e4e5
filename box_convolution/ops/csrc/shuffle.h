// __builtin_shufflevector for GCC before version 12, which has only __builtin_shuffle. That takes lane numbers as a vector of
// integers as wide as the elements, which is the type of a comparison's result.
#pragma once

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 12
#define __builtin_shufflevector(a, b, ...) __builtin_shuffle(a, b, decltype((a) < (b)){__VA_ARGS__})
#endif
