//go:build !linux

package wasm

func populate([]byte) {}
