// Package guest is what a program in Go uses to run on Bitgram's nodes, or
// under `bitgram run`. Build it with
//
//	GOOS=wasip1 GOARCH=wasm go build -o program.wasm .
//
// The functions are there under GOOS=wasip1 alone.
//
// # Epochs
//
// A program's work is divided into epochs by calls of [Sync], which hands over
// a state: whatever the program needs to go on from there. At each of them all
// nodes that run the program compare what they have, are paid, and may hand it
// to another node. So Sync does not return: the program begins anew, from its
// first line and with an empty memory, and [Restore] gives it the state. What
// is not in the state does not survive an epoch; the output does.
//
//	func main() {
//		next := uint64(0)
//		if state, ok := guest.Restore(); ok {
//			next = binary.BigEndian.Uint64(state)
//		}
//		for ; next < 100; next++ {
//			work(next)
//			if next%10 == 9 {
//				guest.Sync(binary.BigEndian.AppendUint64(nil, next+1))
//			}
//		}
//	}
//
// # What there is
//
// Arguments, the input (by [Input], or from its beginning by os.Stdin), the
// output (by [Output] or os.Stdout, in one order), a log for the developer
// (os.Stderr), random numbers from the job's seed ([Random], crypto/rand), and
// a clock that goes with the work done. No files, no network, no time of day.
// All of it is the same on every node.
//
// C and Rust have the same functions: c/bitgram.h and rust/bitgram.rs beside
// this package.
package guest
