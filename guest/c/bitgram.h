/* What a C program uses to run on Bitgram's nodes, or under `bitgram run`:
 *
 *   clang --target=wasm32-wasi -O2 -o program.wasm program.c
 *
 * (on Debian: clang, lld, wasi-libc, libclang-rt-dev-wasm32). The guide is the
 * doc comment of the Go package beside this file; everything here is the same
 * on every node. */
#ifndef BITGRAM_H
#define BITGRAM_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define BITGRAM_IMPORT(name) __attribute__((import_module("bitgram"), import_name(name)))

#ifdef __cplusplus
extern "C" {
#endif

BITGRAM_IMPORT("sync") void bitgram_host_sync(const void *state, uint32_t size);

/* The state that the last epoch ended with: copies as much of it as there is
 * room for and returns its size; -1 in the first epoch. */
BITGRAM_IMPORT("restore") int32_t bitgram_restore(void *state, uint32_t room);

/* Copies what the input has from an offset on; returns how much, 0 at its
 * end. */
BITGRAM_IMPORT("input") uint32_t bitgram_input(uint64_t from, void *to, uint32_t room);

BITGRAM_IMPORT("input_size") uint64_t bitgram_input_size(void);

/* Adds to the output, as stdout does once it is flushed. */
BITGRAM_IMPORT("output") void bitgram_output(const void *from, uint32_t size);

/* Random numbers, which follow from the job's seed and the epoch. */
BITGRAM_IMPORT("random") void bitgram_random(void *to, uint32_t size);

/* Announces something to whoever runs the program. */
BITGRAM_IMPORT("event") void bitgram_event(const void *from, uint32_t size);

/* The number of this epoch, from 1. */
BITGRAM_IMPORT("epoch") uint64_t bitgram_epoch(void);

/* Ends the epoch with a state. Does not return: the program begins anew, with
 * bitgram_restore. A program that was put through asyncify goes on instead. */
static inline void bitgram_sync(const void *state, uint32_t size) {
  fflush(NULL); /* what stays in a buffer would be lost */
  bitgram_host_sync(state, size);
}

#ifdef __cplusplus
}
#endif

#endif
