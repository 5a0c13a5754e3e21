# The two commands that matter need no make: go run ./cmd/bitgram demo, and
# go test ./...

.PHONY: all short test nightly race lint fuzz soak bench search vectors docs picture man release

all: lint test

# Before each commit: at most 90 s on two idle cores.
short:
	@test -z "$$(gofmt -l . | tee /dev/stderr)"
	go test -short ./...

# Before each merge: at most 5 minutes.
test:
	go test ./...

# Everything, exhaustively; hours. It prints what it ran and how long it took.
nightly:
	.ci/nightly

race:
	go test -race -short ./...

lint:
	gofmt -l . && go vet ./... && go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...

# Each fuzz target for FUZZTIME.
FUZZTIME ?= 30s
fuzz:
	@for p in $$(go list ./...); do \
	  for f in $$(go test -list '^Fuzz' $$p | grep ^Fuzz); do \
	    echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$p || exit 1; \
	  done; \
	done

# Kills processes of a network at random for SOAKTIME; the seed is printed.
SOAKTIME ?= 2h
soak:
	go test ./internal/testing/soak -run TestKills -v -count 1 -timeout 0 -soak.time $(SOAKTIME) -soak.seed 0

# Measures everything BENCHMARKS.md states and writes it anew.
bench:
	go run ./internal/bench -o BENCHMARKS.md

# Searches for programs that take long for their fuel, for SEARCHTIME.
SEARCHTIME ?= 1h
search:
	go run ./internal/bench -search $(SEARCHTIME)

# What of spec is written by the code, anew; review the difference.
vectors:
	go test ./seal ./blockname ./internal/contract -run Vectors -update
	go test ./internal/deal -run StateTables -update
	go test ./internal/bank -run 'StateTables|Vectors' -update
	go test ./internal/sandbox -run Roots -update
	go test ./internal/sandbox/wasm -run FuelPage -update

# docs/reference, from the program itself; a test fails if it is not current.
docs:
	go run ./cmd/bitgram generate --reference docs/reference

# README's picture, from a session on a devnet.
picture:
	go run ./docs/picture -o docs/session.svg

man:
	go run ./cmd/bitgram generate --man dist/man

# Archives, Debian packages and checksums in dist/.
release:
	release/build.sh dist
