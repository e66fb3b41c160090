// Package api is how the commands talk to the running agent: HTTP and JSON
// over a unix socket in the agent's state directory, for root and the agent's
// own user only.
package api

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// SocketName is the socket's name in the state directory.
const SocketName = "agent.sock"

const (
	maxBody     = 4 << 10          // of a request; none needs one
	maxAnswer   = 64 << 20         // of an answer
	maxWait     = 30 * time.Minute // of the longest request, a whole pass
	shortWait   = 30 * time.Second // of all others
	serviceName = `^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`
)

// Agent is what the server serves. The values are written as JSON as they are.
// An error's text goes to the caller; one that has `NotFound() bool` is 404.
type Agent interface {
	Status(ctx context.Context) (any, error)
	Plan(ctx context.Context) (any, error)
	CheckHost(ctx context.Context) (any, error)
	Once(ctx context.Context) (any, error) // a whole pass, now
	Sync(ctx context.Context) error        // look at the source now; does not wait
	Pause(ctx context.Context) error
	Resume(ctx context.Context) error
	Drain(ctx context.Context, service string) error
	Undrain(ctx context.Context, service string) (note string, err error) // the note is for the person; mostly empty
}

// ErrNoAgent says that no agent listens on the socket.
var ErrNoAgent = errors.New("no agent runs with this state directory")

// Refused is an error that the agent answered with.
type Refused struct {
	Status  int // HTTP's
	Message string
}

// Error is the agent's own words.
func (r *Refused) Error() string { return r.Message }

// socketIn returns a name of a state directory's socket that fits into a
// sockaddr (108 bytes) however long the directory's is: through the
// descriptor of the directory, which must stay open while the name is used.
func socketIn(state string) (dir *os.File, name string, err error) {
	dir, err = os.Open(state)
	if err != nil {
		return nil, "", err
	}
	info, err := dir.Stat()
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is not a directory", state)
	}
	if err != nil {
		_ = dir.Close()
		return nil, "", err
	}
	return dir, filepath.Join("/proc/self/fd", fmt.Sprint(dir.Fd()), SocketName), nil
}
