#define BOX_ISA baseline
#include "kernels.inl"
