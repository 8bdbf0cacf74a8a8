//go:build race

package topk

// The race detector makes each draw several times as slow, so there are fewer of
// them, and two keys about as frequent may end up in the wrong order.
const (
	streamLen    = 200_000
	streamRecall = 0.9
)
