// Package endings tells how commands have ended, alone or in a batch, for all that
// count them.
package endings

import "github.com/everpool/everpool/hooks"

// Ending is how a command or a batch has ended. What no server has done wrong is no
// [Error].
type Ending uint8

// The endings, which are fewer than types of errors.
const (
	OK       Ending = iota
	Miss            // redis.Nil
	Error           // anything else
	Canceled        // the caller's context was cancelled
	TxFailed        // a watched key has changed
	Num      = iota
)

var names = [Num]string{"ok", "miss", "error", hooks.ErrorCanceled, hooks.ErrorTxFailed}

// String is the ending's name, as in "ok".
func (e Ending) String() string { return names[e] }

// Of is the ending of an outcome with an error's type.
func Of(outcome hooks.Outcome, errorType string) Ending {
	switch {
	case outcome == hooks.OK:
		return OK
	case outcome == hooks.Miss:
		return Miss
	case errorType == hooks.ErrorCanceled:
		return Canceled
	case errorType == hooks.ErrorTxFailed:
		return TxFailed
	}
	return Error
}

// Each calls f for each command of an operation. All of a batch have failed that has
// failed as a whole, without an error of any: go-redis has panicked, say.
func Each(op *hooks.Operation, f func(c *hooks.Command, e Ending, errorType string)) {
	if op.Kind == hooks.Single {
		f(op.Command, Of(op.Outcome, op.ErrorType), op.ErrorType)
		return
	}
	whole := op.Outcome == hooks.Error && !anyFailed(op)
	for _, cmd := range op.Cmds {
		c := op.Command
		if c == nil {
			c = hooks.CommandOf(cmd)
		}
		outcome, errorType := op.Outcome, op.ErrorType
		if !whole {
			outcome, errorType = hooks.Classify(cmd.Err())
		}
		f(c, Of(outcome, errorType), errorType)
	}
}

func anyFailed(op *hooks.Operation) bool {
	for _, cmd := range op.Cmds {
		if outcome, _ := hooks.Classify(cmd.Err()); outcome == hooks.Error {
			return true
		}
	}
	return false
}
