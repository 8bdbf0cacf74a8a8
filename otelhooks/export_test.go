package otelhooks

// Cache is one for tests.
type Cache struct{ c cache[int, int] }

// NewCache returns a cache of at most so many keys.
func NewCache(most int, makeOne func(int) int) *Cache {
	c := &Cache{}
	c.c.max, c.c.make = most, makeOne
	return c
}

// Get is get; what there is no room for is made for once.
func (c *Cache) Get(k int) int {
	if v, ok := c.c.get(k); ok {
		return v
	}
	return c.c.make(k)
}

// Len is the number of keys that it holds.
func (c *Cache) Len() int {
	if all := c.c.all.Load(); all != nil {
		return len(*all)
	}
	return 0
}

// Patience is patience.
const Patience = patience
