//go:build !race

package archive

// raced says that the race detector is built in.
const raced = false
