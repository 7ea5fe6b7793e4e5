#define BOX_ISA avx2
#include "kernels.inl"
