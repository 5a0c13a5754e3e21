package bankbench

import (
	"os"
	"testing"

	"github.com/bitgram/bitgram/internal/testing/tier"
)

// TestQuick: everything is measured, and nothing stays.
func TestQuick(t *testing.T) {
	tier.NotShort(t)
	dir := t.TempDir()
	told := 0
	list, err := Run(t.Context(), Options{Quick: true, Dir: dir, Found: func(Figure) { told++ }})
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, f := range list {
		t.Logf("%s: %s %s", f.What, f.Measured(), f.Wanted())
		if names[f.Name] || f.Name == "" || f.What == "" || f.Value < 0 {
			t.Errorf("%+v", f)
		}
		names[f.Name] = true
	}
	for _, name := range []string{"verify_ratio", "jump_allocations", "one_in_flight_ratio", "banks_50_window_1", "banks_50_window_16",
		"open_126", "open_1022", "open_1022_bytes", "close_126", "close_more", "close_both"} {
		if !names[name] {
			t.Errorf("%s is not measured", name)
		}
	}
	// What no other program on the machine changes.
	for _, f := range list {
		if (f.Unit == "vB" || f.Unit == "bytes") && !f.OK() {
			t.Errorf("%s: %s, wanted %s", f.What, f.Measured(), f.Wanted())
		}
	}
	if told != len(list) {
		t.Errorf("%d figures told, %d returned", told, len(list))
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
