//go:build !nightly

package tier

const nightly = false
