package bank_test

import (
	"testing"

	"github.com/bitgram/bitgram/internal/testing/tier"
)

func TestMain(m *testing.M) { tier.FewerCases(m) }
