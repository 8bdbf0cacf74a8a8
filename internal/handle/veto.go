//go:build !everpool_noveto

package handle

// Vetoes says whether handles refuse to be used again while their node doesn't
// serve. Where go-redis doesn't ask (Windows), and in code that keeps a handle
// (Conn, Tx), they can't, and callers wait in Write: the tag everpool_noveto has
// the tests run as it is there.
const Vetoes = true
