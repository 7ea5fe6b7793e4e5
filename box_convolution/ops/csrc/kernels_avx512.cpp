#define BOX_ISA avx512
#include "kernels.inl"
