// Package browser tests the testbench's page in a real browser. It is a module of its
// own, so that what drives the browser isn't needed for anything else.
package browser
