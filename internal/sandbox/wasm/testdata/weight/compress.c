/* A compressor: makes text, compresses it at several levels, and checks that it
 * comes back. As many KiB as the first argument says. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "zstd.h"
#define XXH_STATIC_LINKING_ONLY
#include "xxhash.h"

int main(int argc, char **argv) {
  size_t size = (size_t)(argc > 1 ? atoi(argv[1]) : 1024) << 10;
  char *text = malloc(size), *back = malloc(size);
  size_t room = ZSTD_compressBound(size);
  void *packed = malloc(room);
  static const char *words[] = {"satoshi", "penny", "epoch", "node", "agent", "the", "a", "of", "outpoint", "quorum", "state", "root", "sync", "and", "proof", "rung"};
  uint32_t s = 12345;
  for (size_t at = 0; at < size;) {
    s = s * 1664525 + 1013904223;
    const char *w = words[s >> 28 & (s >> 20 & 15)];
    for (size_t k = 0; w[k] && at < size; k++) text[at++] = w[k];
    if (at < size) text[at++] = s >> 12 & 15 ? ' ' : (char)('0' + (s >> 8) % 10);
  }
  for (int level = 1; level <= 13; level += 4) {
    size_t n = ZSTD_compress(packed, room, text, size, level);
    if (ZSTD_isError(n)) return 1;
    size_t m = ZSTD_decompress(back, size, packed, n);
    if (m != size || memcmp(text, back, size)) return 2;
    printf("level %d: %zu to %zu, %016llx\n", level, size, n, (unsigned long long)XXH64(packed, n, 0));
  }
  return 0;
}
