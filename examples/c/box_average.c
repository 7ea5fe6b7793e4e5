// Averages of a grey image over one box: a box convolution without Python or PyTorch.
//
//     box_average IMAGE.pgm TOP BOTTOM LEFT RIGHT
//
// The edges are in pixels relative to the output pixel's centre, positive = down / right: -0.5 0.5 -0.5 0.5 is the pixel
// itself. The image is a binary PGM file (P5) of 8 bits without comments. Prints "row column average" for the corners
// and the middle.
#include <box_conv2d.h>
#include <stdio.h>
#include <stdlib.h>

static int fail(const char* message) {
  fprintf(stderr, "box_average: %s\n", message);
  return 1;
}

// Returns the pixels as floats, which the caller must free; NULL if the file is no such image.
static float* read_pgm(const char* path, int* h, int* w) {
  FILE* file = fopen(path, "rb");
  if (!file) return NULL;
  int most = 0;
  float* pixels = NULL;
  if (fscanf(file, "P5 %d %d %d", w, h, &most) == 3 && most == 255 && fgetc(file) != EOF && *h > 0 && *w > 0) {
    const size_t count = (size_t)*h * (size_t)*w;
    pixels = malloc(count * sizeof *pixels);
    for (size_t i = 0; pixels && i < count; ++i) {
      const int byte = fgetc(file);
      if (byte == EOF) {
        free(pixels);
        pixels = NULL;
      } else {
        pixels[i] = (float)byte;
      }
    }
  }
  fclose(file);
  return pixels;
}

int main(int count, char** arguments) {
  if (count != 6) return fail("usage: box_average IMAGE.pgm TOP BOTTOM LEFT RIGHT");
  if (box_abi_version() != BOX_ABI_VERSION) return fail("the library is of another version than its header");

  int h = 0, w = 0;
  float* image = read_pgm(arguments[1], &h, &w);
  if (!image) return fail("IMAGE must be a binary PGM file (P5) of 8 bits");
  double box[4];
  for (int i = 0; i < 4; ++i) box[i] = strtod(arguments[2 + i], NULL);
  if (!(box[0] < box[1] && box[2] < box[3])) {
    free(image);
    return fail("TOP must be less than BOTTOM, and LEFT less than RIGHT");
  }
  float* output = malloc((size_t)h * (size_t)w * sizeof *output);

  BoxForward call = {0};
  call.problem.batch = call.problem.channels = call.problem.per_channel = call.problem.stride = 1;
  call.problem.h = h;
  call.problem.w = w;
  call.problem.dtype = BOX_FLOAT32;
  call.problem.normalize = 1;
  call.problem.boxes = box;
  call.problem.input = image;
  call.problem.input_strides[0] = call.problem.input_strides[1] = (int64_t)h * w;
  call.problem.input_strides[2] = w;
  call.problem.input_strides[3] = 1;
  call.problem.threads = 1;
  call.output = output;
  const int status = output ? box_forward(&call) : BOX_NO_MEMORY;

  if (status == BOX_DONE) {
    const int rows[] = {0, 0, h / 2, h - 1, h - 1}, columns[] = {0, w - 1, w / 2, 0, w - 1};
    for (int i = 0; i < 5; ++i) printf("%d %d %.6f\n", rows[i], columns[i], output[(size_t)rows[i] * w + columns[i]]);
  }
  free(output);
  free(image);
  return status == BOX_DONE ? 0 : fail("memory ran out");
}
