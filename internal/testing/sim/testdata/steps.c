/* Counts to its first argument, one in each epoch, and says a number each time. With a
 * second argument it fails in that epoch. */
#include <stdlib.h>

#include "bitgram.h"

int main(int argc, char **argv) {
  uint32_t s[2] = {0, 1};
  bitgram_restore(s, sizeof s);
  s[0]++;
  s[1] = s[1] * 1664525 + 1013904223;
  uint32_t r;
  bitgram_random(&r, sizeof r);
  s[1] ^= r;
  if (argc > 2 && s[0] == (uint32_t)atoi(argv[2])) __builtin_trap();
  printf("epoch %u: %08x\n", s[0], s[1]);
  if (s[0] < (uint32_t)atoi(argv[1])) bitgram_sync(s, sizeof s);
  return 0;
}
