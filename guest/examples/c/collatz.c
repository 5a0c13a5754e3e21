/* Finds the number below a limit (1,000,000 unless another is given) with the
 * longest Collatz sequence; an epoch for each 131,072 numbers.
 *
 *   clang --target=wasm32-wasi -O2 -I guest/c -o collatz.wasm guest/examples/c/collatz.c
 */
#include <stdlib.h>

#include "bitgram.h"

typedef struct {
  uint32_t next, best, length;
} state;

static uint32_t length_of(uint64_t n) {
  uint32_t steps = 1;
  for (; n != 1; steps++) n = n & 1 ? 3 * n + 1 : n / 2;
  return steps;
}

int main(int argc, char **argv) {
  uint32_t limit = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1000000;
  state s = {1, 1, 1};
  bitgram_restore(&s, sizeof s);
  while (s.next < limit) {
    uint32_t steps = length_of(s.next);
    if (steps > s.length) {
      s.best = s.next;
      s.length = steps;
    }
    if (++s.next % 131072 == 0) {
      printf("to %u: %u with %u steps\n", s.next, s.best, s.length);
      bitgram_sync(&s, sizeof s);
    }
  }
  printf("%u has the longest sequence below %u: %u steps\n", s.best, limit, s.length);
  return 0;
}
