package acceptance_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/everpool/everpool/internal/testkit"
)

// A cluster client on sentinels leaves its subscription to them behind when it is
// closed, on its own pool too.
func TestMain(m *testing.M) {
	testkit.ManyBeside()
	const goRedis = "github.com/redis/go-redis/v9."
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction(goRedis+"(*sentinelFailover).listen"),
		goleak.IgnoreAnyFunction(goRedis+"(*channel).initMsgChan.func1"),
		goleak.IgnoreAnyFunction(goRedis+"(*channel).initHealthCheck.func1"),
	)
}
