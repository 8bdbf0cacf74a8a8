package testkit_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/everpool/everpool/internal/testkit"
)

func TestAwaitErrAsksUntilItIsSoAndSaysWhatNeverWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		if err := testkit.AwaitErr("it is the third time", func() bool { asked++; return asked == 3 }); err != nil || asked != 3 {
			t.Errorf("asked %d times: %v", asked, err)
		}
		err := testkit.AwaitErr("pigs fly", func() bool { return false })
		if err == nil || !strings.Contains(err.Error(), "pigs fly") {
			t.Errorf("got %v", err)
		}
	})
}
