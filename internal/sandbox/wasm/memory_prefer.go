//go:build unix && !linux

package wasm

func prefer([]byte) {}
