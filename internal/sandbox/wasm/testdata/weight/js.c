/* An interpreter: JavaScript. The script is the input; its errors end it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "duktape.h"

static duk_ret_t print(duk_context *c) {
  duk_push_string(c, " ");
  duk_insert(c, 0);
  duk_join(c, duk_get_top(c) - 1);
  printf("%s\n", duk_safe_to_string(c, -1));
  return 0;
}

static void fatal(void *u, const char *why) {
  fprintf(stderr, "%s\n", why);
  exit(1);
}

int main(int argc, char **argv) {
  static char script[1 << 16];
  size_t n = fread(script, 1, sizeof script - 1, stdin);
  duk_context *c = duk_create_heap(0, 0, 0, 0, fatal);
  duk_push_c_function(c, print, DUK_VARARGS);
  duk_put_global_string(c, "print");
  duk_eval_lstring(c, script, n);
  duk_destroy_heap(c);
  return 0;
}
