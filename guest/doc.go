// Package guest is the API for Go programs that run on Bitgram's nodes or under
// `bitgram run`. Build such a program with
//
//	GOOS=wasip1 GOARCH=wasm go build -o program.wasm .
//
// The functions exist only under GOOS=wasip1.
//
// # Epochs
//
// Calls of [Sync] divide a program's work into epochs. Sync passes a state: all
// data that the program needs to continue. At each call, all nodes that run the
// program compare their states, are paid, and may hand the program over to
// another node. So Sync does not return. The program starts again from its
// first line, with empty memory, and [Restore] returns the state. Data outside
// the state do not survive an epoch; the output does.
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
// # Environment
//
// A program has arguments, the input ([Input], or os.Stdin from its beginning),
// the output ([Output] or os.Stdout, which share one order), a log for the
// developer (os.Stderr), random numbers from the job's seed ([Random],
// crypto/rand), and a clock that advances with the work done. It has no files,
// network or wall clock. Everything is the same on every node.
//
// C and Rust have the same functions, in c/bitgram.h and rust/bitgram.rs in
// this directory.
package guest
