//go:build race

package soak

// raceDetector: the processes are built with it, too.
const raceDetector = true
