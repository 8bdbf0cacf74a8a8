package testkit_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/everpool/everpool/internal/testkit"
)

func TestMain(m *testing.M) {
	testkit.ManyBeside()
	goleak.VerifyTestMain(m)
}
