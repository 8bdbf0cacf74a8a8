package otelhooks

// NewCache returns the get of a cache of at most so many keys, and its length.
func NewCache(most int, makeOne func(int) int) (get func(int) int, length func() int) {
	c := &cache[int, int]{max: most, make: makeOne}
	return c.get, func() int { return len(*c.all.Load()) }
}
