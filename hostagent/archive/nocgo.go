//go:build !cgo

package archive

// dynamic says that this program cannot start without libraries of the system.
const dynamic = false
