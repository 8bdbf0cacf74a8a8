//go:build everpool_noveto

package handle

const Vetoes = false
