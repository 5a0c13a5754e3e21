/* A SQL engine in memory: tables, indices, joins, aggregates, text and floats.
 * The rows are as many as the first argument says. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sqlite3-binding.h"

/* No file is ever opened: a VFS that refuses. */
static int no_open(sqlite3_vfs *v, const char *n, sqlite3_file *f, int x, int *y) { return SQLITE_CANTOPEN; }
static int no_delete(sqlite3_vfs *v, const char *n, int s) { return SQLITE_IOERR; }
static int no_access(sqlite3_vfs *v, const char *n, int x, int *r) { *r = 0; return SQLITE_OK; }
static int no_path(sqlite3_vfs *v, const char *n, int size, char *out) { sqlite3_snprintf(size, out, "%s", n); return SQLITE_OK; }
static int no_random(sqlite3_vfs *v, int n, char *out) { memset(out, 1, n); return n; }
static int no_sleep(sqlite3_vfs *v, int n) { return n; }
static int no_time(sqlite3_vfs *v, double *t) { *t = 2460000.5; return SQLITE_OK; }
static sqlite3_vfs vfs = {1, sizeof(sqlite3_file), 256, 0, "none", 0, no_open, no_delete, no_access, no_path, 0, 0, 0, 0, no_random, no_sleep, no_time, 0};
int sqlite3_os_init(void) { return sqlite3_vfs_register(&vfs, 1); }
int sqlite3_os_end(void) { return SQLITE_OK; }

static int row(void *p, int n, char **v, char **names) {
  for (int i = 0; i < n; i++) printf("%s%s", i ? "|" : "", v[i] ? v[i] : "NULL");
  printf("\n");
  return 0;
}

static sqlite3 *db;

static void run(const char *sql) {
  char *why = 0;
  if (sqlite3_exec(db, sql, row, 0, &why)) {
    fprintf(stderr, "%s: %s\n", sql, why);
    exit(1);
  }
}

int main(int argc, char **argv) {
  char sql[512];
  int rows = argc > 1 ? atoi(argv[1]) : 20000;
  if (sqlite3_open(":memory:", &db)) return 1;
  run("create table item(id integer primary key, name text, price real, kind int)");
  run("create table sale(id integer primary key, item int, amount int, day int)");
  sqlite3_snprintf(sizeof sql, sql,
    "with recursive n(i) as (select 1 union all select i+1 from n where i<%d) "
    "insert into item select i, 'item ' || (i*7919 %% 10007), (i*37 %% 1000)/7.0, i%%13 from n", rows / 10);
  run(sql);
  sqlite3_snprintf(sizeof sql, sql,
    "with recursive n(i) as (select 1 union all select i+1 from n where i<%d) "
    "insert into sale select i, 1 + (i*7919 %% %d), i%%17, i%%365 from n", rows, rows / 10);
  run(sql);
  run("create index sale_item on sale(item)");
  run("select kind, count(*), sum(amount*price), avg(price), max(name) from item join sale on sale.item=item.id group by kind order by kind");
  run("select name, total(amount) t from item left join sale on sale.item=item.id where name like '%9%1%' group by name order by t desc, name limit 10");
  run("select day, group_concat(amount) from (select * from sale order by day, id) where day<3 and id<2000 group by day");
  run("update sale set amount=amount+day where item in (select id from item where kind=5)");
  run("delete from sale where day%7=3");
  run("select count(*), sum(amount), printf('%.6f', avg(amount*1.1)) from sale");
  run("select max(length(hex(name))), min(upper(name)), sum(instr(name,'42')) from item");
  sqlite3_close(db);
  return 0;
}
