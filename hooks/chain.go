package hooks

import (
	"slices"

	"github.com/redis/go-redis/v9"
)

// Chain makes one hook of several: the first is the outermost, as if they had
// been added to a client in this order. nil ones are left out.
func Chain(hooks ...redis.Hook) redis.Hook {
	var all chain
	for _, h := range hooks {
		if h != nil {
			all = append(all, h)
		}
	}
	return all
}

type chain []redis.Hook

func (c chain) DialHook(next redis.DialHook) redis.DialHook {
	for _, v := range slices.Backward(c) {
		if outer := v.DialHook(next); outer != nil {
			next = outer
		}
	}
	return next
}

func (c chain) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	for _, v := range slices.Backward(c) {
		if outer := v.ProcessHook(next); outer != nil {
			next = outer
		}
	}
	return next
}

func (c chain) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	for _, v := range slices.Backward(c) {
		if outer := v.ProcessPipelineHook(next); outer != nil {
			next = outer
		}
	}
	return next
}

// Adapter makes a [redis.Hook] of functions, each of which may be nil: what it is
// for is then passed through.
type Adapter struct {
	Dial     func(next redis.DialHook) redis.DialHook
	Process  func(next redis.ProcessHook) redis.ProcessHook
	Pipeline func(next redis.ProcessPipelineHook) redis.ProcessPipelineHook
}

// DialHook calls Dial.
func (a Adapter) DialHook(next redis.DialHook) redis.DialHook {
	if a.Dial == nil {
		return next
	}
	return a.Dial(next)
}

// ProcessHook calls Process.
func (a Adapter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	if a.Process == nil {
		return next
	}
	return a.Process(next)
}

// ProcessPipelineHook calls Pipeline.
func (a Adapter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	if a.Pipeline == nil {
		return next
	}
	return a.Pipeline(next)
}
