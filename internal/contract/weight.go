package contract

import (
	"github.com/bitgram/bitgram/wire"
)

// Weights in weight units (BIP141: a base byte counts 4, a witness byte 1). The
// vsize is weight/4 rounded up. TestWeights checks every constant against built
// transactions.
const (
	// TxOverheadWeight: version 4 + input count 1 + output count 1 + locktime 4
	// base bytes, and the 2 witness bytes of marker and flag. Counts from 253
	// up take 2 base bytes more each.
	TxOverheadWeight = 4*(4+1+1+4) + 2

	// inputBaseWeight: outpoint 36 + empty script's length 1 + sequence 4.
	inputBaseWeight = 4 * (36 + 1 + 4)

	// P2TROutputWeight: value 8 + length 1 + script 34.
	P2TROutputWeight = 4 * (8 + 1 + 34)

	// MarkerSize is the funding marker's data: "bg" 2 + version 1 + root 32 +
	// E 32 + masked locator 8 + tag 4.
	MarkerSize = 2 + 1 + 32 + 32 + 8 + 4

	// MarkerOutputWeight: value 8 + length 1 + OP_RETURN 1 + OP_PUSHDATA1 2 +
	// data 79.
	MarkerOutputWeight = 4 * (8 + 1 + 1 + 2 + MarkerSize)

	// KeySpendInputWeight: a P2TR key-path input (BIP86) with SIGHASH_DEFAULT:
	// base, item count 1, length 1 + signature 64.
	KeySpendInputWeight = inputBaseWeight + 1 + 1 + 64

	// claimScriptSize: SIZE 1 + push 32 as a number 2 + EQUALVERIFY 1 + SHA256
	// 1 + hash 33 + EQUALVERIFY 1 + key 33 + CHECKSIGVERIFY 1 + key 33 +
	// CHECKSIG 1.
	claimScriptSize = 1 + 2 + 1 + 1 + 33 + 1 + 33 + 1 + 33 + 1

	// claimWitness: item count 1, agent's signature 1+64, sender's completed
	// signature with its hash type 1+65, σ 1+32, script 1+107, and the control
	// block without its path 1+33.
	claimWitness = 1 + (1 + 64) + (1 + 65) + (1 + 32) + (1 + claimScriptSize) + (1 + 33)

	// Dust is the minimum value of a P2TR output that is relayed: Bitcoin
	// Core's 330 sat at its default dust rate of 3,000 sat/kvB.
	Dust wire.Sat = 330
)

// ClaimInputWeight is the weight of an input that claims leaf i of an output
// with n claim leaves.
func ClaimInputWeight(i, n int) int64 {
	return inputBaseWeight + claimWitness + 32*pathLen(i, n+1)
}

// RefundInputWeight is the weight of an input that refunds an output with n
// claim leaves and the given expiry.
func RefundInputWeight(expiry wire.Height, n int) int64 {
	script := int64(len(RefundScript(expiry, wire.Key{})))
	return inputBaseWeight + 1 + (1 + 64) + (1 + script) + (1 + 33) + 32*pathLen(n, n+1)
}

// CountWeight is the weight that the count of n inputs or outputs takes beyond
// the one byte that TxOverheadWeight has for it.
func CountWeight(n int) int64 {
	if n >= 253 {
		return 4 * 2
	}
	return 0
}

// RungInputWeight is the weight of an input that closes a bank of n rungs by leaf
// i: item count 1, payee's signature 1+64, payer's with its hash type 1+65, penny
// 1+16, script, control block.
func RungInputWeight(i, n int) int64 {
	const script = 1 + 21 + 1 + 33 + 1 + 33 + 1
	return inputBaseWeight + 1 + (1 + 64) + (1 + 65) + (1 + wire.PennySize) + (1 + script) + (1 + 33) + 32*pathLen(i, n+2) + longControl(pathLen(i, n+2))
}

// TogetherInputWeight is the weight of an input that closes a bank of n rungs
// with both signatures.
func TogetherInputWeight(n int) int64 {
	const script = 33 + 1 + 33 + 1
	return inputBaseWeight + 1 + 2*(1+64) + (1 + script) + (1 + 33) + 32*pathLen(n, n+2) + longControl(pathLen(n, n+2))
}

// BankRefundInputWeight is the weight of an input that takes back a bank of n
// rungs.
func BankRefundInputWeight(expiry wire.Height, n int) int64 {
	script := int64(len(RefundScript(expiry, wire.Key{})))
	return inputBaseWeight + 1 + (1 + 64) + (1 + script) + (1 + 33) + 32*pathLen(n+1, n+2) + longControl(pathLen(n+1, n+2))
}

// ChangeInputWeight is the weight of an input that spends the payer's change.
func ChangeInputWeight() int64 {
	script := int64(len(ChangeScript(wire.Key{})))
	return inputBaseWeight + 1 + (1 + 64) + (1 + script) + (1 + 33)
}

// longControl returns the weight of a control block's length beyond its first
// byte.
func longControl(path int64) int64 {
	if 33+32*path >= 253 {
		return 2
	}
	return 0
}

// pathLen returns the depth of leaf i of n in the tree of merge.
func pathLen(i, n int) int64 {
	if n == 1 {
		return 0
	}
	k := 1
	for k*2 < n {
		k *= 2
	}
	if i < k {
		return 1 + pathLen(i, k)
	}
	return 1 + pathLen(i-k, n-k)
}

// FundingWeight is the weight of a funding transaction with BIP86 inputs,
// frozen outputs, the marker and, with change, one change output.
func FundingWeight(inputs, frozen int, change bool) int64 {
	w := TxOverheadWeight + int64(inputs)*KeySpendInputWeight + int64(frozen)*P2TROutputWeight + MarkerOutputWeight
	if change {
		w += P2TROutputWeight
	}
	return w
}

// Weight is the weight of a signed transaction.
func Weight(tx Tx) int64 { return int64(3*tx.SerializeSizeStripped() + tx.SerializeSize()) }

// VSize rounds a weight up to virtual bytes.
func VSize(weight int64) int64 { return (weight + 3) / 4 }

// MinFeeRate is the lowest fee rate that contracts plan for: the minimum that
// Bitcoin Core before v29.1 and btcd relay, 1 sat/vB.
const MinFeeRate wire.SatPerKVB = 1000

// ClaimReserve returns the fee of a claim of leaf i of n at a fee rate, alone in
// a transaction with one P2TR output.
func ClaimReserve(rate wire.SatPerKVB, i, n int) wire.Sat {
	return rate.Fee(VSize(TxOverheadWeight + ClaimInputWeight(i, n) + P2TROutputWeight))
}

// FrozenReserve is the part of a frozen output's value, in sat, that makes the
// output spendable alone, in a transaction with one P2TR output: Dust for that
// output, and the fee at rate of the larger of the claim (of the deepest of n
// leaves) and the refund. A rate below MinFeeRate counts as MinFeeRate.
func FrozenReserve(rate wire.SatPerKVB, expiry wire.Height, n int) wire.Sat {
	rate = max(rate, MinFeeRate)
	refund := rate.Fee(VSize(TxOverheadWeight + RefundInputWeight(expiry, n) + P2TROutputWeight))
	return Dust + max(ClaimReserve(rate, 0, n), refund)
}
