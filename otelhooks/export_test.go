package otelhooks

// Cache is one for tests.
type Cache struct{ c cache[int, int] }

// NewCache returns a cache of at most so many keys.
func NewCache(most int, makeOne func(int) int) *Cache {
	c := &Cache{}
	c.c.max, c.c.make = most, makeOne
	return c
}

// Get is get.
func (c *Cache) Get(k int) int { return c.c.get(k) }

// Len is the number of keys that it holds.
func (c *Cache) Len() int { return len(*c.c.all.Load()) }
