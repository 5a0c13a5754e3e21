/* Syncs out of a recursion with a pointer to a function in it, with live
 * locals, a heap and floats: only a full snapshot can bring it back. */
#include <stdlib.h>
#include <string.h>

#include "bitgram.h"

typedef uint32_t (*step)(int, uint32_t);
uint32_t down(int depth, uint32_t x);

static uint8_t *heap;
static uint32_t heap_size, syncs;
static double sum = 1;

static uint32_t leaf(int depth, uint32_t x) {
  for (uint32_t i = 0; i < heap_size / 64; i++) {
    x = x * 1664525 + 1013904223;
    heap[x % heap_size] ^= (uint8_t)(x >> 24);
  }
  syncs++;
  printf("sync %u: %08x %.9f\n", syncs, x, sum);
  bitgram_sync(&x, sizeof x);
  return x + (uint32_t)bitgram_epoch() + (uint32_t)depth;
}

static step steps[2] = {leaf, down};

__attribute__((noinline)) uint32_t down(int depth, uint32_t x) {
  uint32_t mine = x ^ 0x9e3779b9u;
  float f = (float)depth * 1.5f;
  uint32_t r = steps[depth > 0](depth - 1, x + (uint32_t)depth);
  sum += (double)f / (r | 1);
  return r + mine * 31;
}

int main(int argc, char **argv) {
  heap_size = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1 << 20;
  heap = malloc(heap_size);
  memset(heap, 7, heap_size);
  uint32_t total = 0;
  for (int i = 0; i < 4; i++) total = total * 33 + down(10 + i, (uint32_t)i);
  uint32_t mix = 0;
  for (uint32_t i = 0; i < heap_size; i++) mix = mix * 31 + heap[i];
  printf("total %08x, heap %08x, sum %.12f\n", total, mix, sum);
  return 0;
}
