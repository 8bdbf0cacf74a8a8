//go:build !everpool_noveto

package acceptance_test

const secondRun = false
