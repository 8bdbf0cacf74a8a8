//go:build everpool_noveto

package acceptance_test

// secondRun: these tests run once more, as where handles can't be refused.
const secondRun = true
