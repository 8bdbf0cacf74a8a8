//go:build everpool_noveto

package driver

const vetoes = false
