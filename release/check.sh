#!/usr/bin/env bash
# check.sh: builds the release twice, from two clones in two directories, with
# separate build caches, and fails if a byte differs. PLATFORMS limits it.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
for n in first a/second/one; do
  mkdir -p "$work/$n"
  git clone -q . "$work/$n/bitgram"
  (cd "$work/$n/bitgram" && GOCACHE="$work/$n/cache" release/build.sh "$work/$n/dist")
done
diff -r "$work/first/dist" "$work/a/second/one/dist"
cat "$work/first/dist/SHA256SUMS"
echo 'built twice, the same bytes'
