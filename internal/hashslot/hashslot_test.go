package hashslot_test

import (
	"testing"

	"github.com/everpool/everpool/internal/hashslot"
)

// The check value of CRC-16/XMODEM, and keys whose slots CLUSTER KEYSLOT of a
// server has told.
func TestSlotsAreTheServers(t *testing.T) {
	for key, want := range map[string]int{
		"123456789": 0x31c3 % hashslot.Count, "": 0, "foo": 12182, "bar": 5061, "hello": 866,
		"{user1000}.following": 3443, "{user1000}.followers": 3443, "foo{}{bar}": 8363, "foo{{bar}}zap": 4015, "foo{bar}{zap}": 5061,
	} {
		if got := hashslot.Of([]byte(key)); got != want {
			t.Errorf("%q is in slot %d; the server says %d", key, got, want)
		}
	}
}
