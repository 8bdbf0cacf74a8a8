package resp_test

import (
	"testing"

	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	logging.Disable() // go-redis says of every test that something unread was left
	goleak.VerifyTestMain(m)
}
