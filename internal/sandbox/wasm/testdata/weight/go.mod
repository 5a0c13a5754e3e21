// The sources in C of programs of weight, for the tests and benchmarks of
// package wasm: nothing of ours is built from them.
module github.com/bitgram/bitgram/internal/sandbox/wasm/testdata/weight

go 1.26

require (
	github.com/DataDog/zstd v1.5.7
	github.com/mattn/go-sqlite3 v1.14.53
	gopkg.in/olebedev/go-duktape.v3 v3.0.0-20200619000410-60c24ae608a6
)
