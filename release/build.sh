#!/usr/bin/env bash
# build.sh DIR: builds the released files into DIR: archives for Linux and macOS,
# Debian packages, SHA256SUMS. The same commit and Go version give the same bytes
# in any directory.
#
# VERSION          of the release; else from the last tag v…, or 0.0.0
# SOURCE_DATE_EPOCH  every timestamp; else the commit's
# PLATFORMS        which, "linux/amd64 …"; else all
set -euo pipefail
cd "$(dirname "$0")/.."

out=$(mkdir -p "${1:-dist}" && cd "${1:-dist}" && pwd)
platforms=${PLATFORMS:-linux/amd64 linux/arm64 darwin/amd64 darwin/arm64}
nfpm=github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2

version=${VERSION:-}
if [ -z "$version" ]; then
  # v0.1.0-5-gabc1234 is five commits after 0.1.0, so it sorts behind it.
  version=$(git describe --tags --match 'v*' 2>/dev/null || echo "v0.0.0-0-g$(git rev-parse --short=12 HEAD)")
  version=$(echo "${version#v}" | sed 's/-\([0-9]*\)-g/+\1.g/')
fi
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH

# Nothing of this machine's settings gets into the binaries.
export CGO_ENABLED=0 GOFLAGS=-mod=readonly GOAMD64=v1 GOARM64=v8.0 GOEXPERIMENT='' GOWORK=off TZ=UTC LC_ALL=C
umask 022

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
build() { # OS ARCH FILE
  GOOS=$1 GOARCH=$2 go build -trimpath -buildvcs=false -ldflags "-s -w -X main.release=$version" -o "$3" ./cmd/bitgram
}

# What the program says of itself, from a binary for this machine.
build "$(go env GOHOSTOS)" "$(go env GOHOSTARCH)" "$work/bitgram"
"$work/bitgram" generate --man "$work/man" --completions "$work/completions"
gzip -n -9 "$work"/man/*.1

for p in $platforms; do
  os=${p%/*} arch=${p#*/}
  name=bitgram_${version}_${os}_${arch}
  dir=$work/$name
  mkdir -p "$dir"
  build "$os" "$arch" "$dir/bitgram"
  cp -r LICENSE README.md CHANGELOG.md SECURITY.md "$work/man" "$work/completions" "$dir"
  chmod -R u=rwX,go=rX "$dir"
  tar -C "$work" --format=ustar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -cf - "$name" |
    gzip -n -9 >"$out/$name.tar.gz"
  if [ "$os" = linux ]; then
    sed "s|@VERSION@|$version|; s|@ARCH@|$arch|; s|@DIR@|$dir|" release/nfpm.yaml >"$work/nfpm.yaml"
    find "$dir" release -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
    env -u GOAMD64 GOFLAGS= go run "$nfpm" package --config "$work/nfpm.yaml" --packager deb --target "$out/bitgram_${version}_${arch}.deb" >/dev/null
  fi
done

{
  echo "version $version"
  echo "commit $(git rev-parse HEAD 2>/dev/null || echo unknown)"
  echo "date $SOURCE_DATE_EPOCH"
  go version | sed 's/^go version //; s/ .*//'
} >"$out/BUILD"
(cd "$out" && sha256sum BUILD bitgram_"$version"_* >SHA256SUMS)
