package resp_test

import (
	"testing"

	"github.com/everpool/everpool/internal/resp"
)

func TestOnlyAnErrorThatSaysSoIsAnUnknownCommand(t *testing.T) {
	for reply, want := range map[string]bool{
		"-ERR unknown command 'EXEC', with args beginning with: \r\n":            true,
		"-ERR unknown command `CLIENT`":                                          true, // an old server, and only the beginning
		"-ERR Unknown subcommand or wrong number of arguments for 'SETINFO'\r\n": true,
		"-err UNKNOWN command\r\n":                                               true,
		"-ERR unknown ":                                                          false,
		"-ERR unknown":                                                           false,
		"":                                                                       false,
		"-ERR wrong number of arguments for 'exec' command\r\n":              false,
		"-NOPERM this user has no permissions to run the 'exec' command\r\n": false,
		"+ERR unknown command\r\n":                                           false,
		"$23\r\n-ERR unknown command 'x'\r\n":                                false,
	} {
		if got := resp.UnknownCommand([]byte(reply)); got != want {
			t.Errorf("UnknownCommand(%q) = %v, want %v", reply, got, want)
		}
	}
}
