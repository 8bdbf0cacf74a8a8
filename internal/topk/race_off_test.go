//go:build !race

package topk

// streamLen is the number of draws in the full stream of the accuracy test, and
// streamRecall the recall wanted from it.
const (
	streamLen    = 2_000_000
	streamRecall = 1
)
