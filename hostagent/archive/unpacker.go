package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"

	"golang.org/x/sys/unix"

	"drydock/hostagent/confine"
)

// verb is the hidden first argument by which the agent's binary becomes the
// unpacker: a process of its own that reads an archive, which may be anybody's,
// and can do nothing but fill one directory.
const verb = "drydock-unpack"

// The descriptors that the unpacker inherits.
const (
	rulesFD   = 3
	statusFD  = 4
	sourceFD  = 5 // the archive: a file, or a pipe that a tar comes out of
	treeFD    = 6 // the directory to fill
	resultFD  = 7 // takes the result
	programFD = 8 // the agent's own binary
)

// order is what the unpacker is told.
type order struct {
	Strip  int    `json:"strip"`
	Limits Limits `json:"limits"`
	Stream bool   `json:"stream,omitempty"` // the source is a pipe
}

// result is what the unpacker says at its end. The agent takes its word for
// nothing but why it failed.
type result struct {
	Done  bool      `json:"done,omitempty"`
	Bad   *BadError `json:"bad,omitempty"`
	Op    string    `json:"op,omitempty"` // of a call that failed
	Path  string    `json:"path,omitempty"`
	Errno int       `json:"errno,omitempty"`
	Text  string    `json:"text,omitempty"`
}

// maxResult bounds what is read of a result.
const maxResult = 64 << 10

// Unpacker must be called early by main with os.Args. Where ours is true this
// process was the unpacker and must exit with code.
func Unpacker(args []string) (code int, ours bool) {
	if len(args) < 2 || args[1] != verb {
		return 0, false
	}
	var o order
	if len(args) != 3 || json.Unmarshal([]byte(args[2]), &o) != nil {
		fmt.Fprintln(os.Stderr, "this verb is for the agent's own use")
		return 2, true
	}
	for fd := sourceFD; fd <= programFD; fd++ {
		unix.CloseOnExec(fd)
	}
	err := confine.Alone()
	if err == nil {
		err = o.carryOut()
	}
	out := os.NewFile(resultFD, "result")
	if json.NewEncoder(out).Encode(resultOf(err)) != nil || out.Close() != nil {
		return 1, true
	}
	return 0, true
}

func (o order) carryOut() error {
	root, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", treeFD))
	if err != nil {
		return err
	}
	defer root.Close()
	src := os.NewFile(sourceFD, "archive")
	if !o.Stream {
		return Extract(context.Background(), src, root, o.Strip, o.Limits)
	}
	t := newTree(context.Background(), root, o.Strip, o.Limits, math.MaxInt64)
	in := &reader{t: t, r: src}
	if err := t.untarred(in, in); err != nil {
		return err
	}
	return t.finish()
}

func resultOf(err error) result {
	var bad *BadError
	var errno unix.Errno
	switch {
	case err == nil:
		return result{Done: true}
	case errors.As(err, &bad):
		const most = 4096 // of a name, which is quoted in what people read anyway
		return result{Bad: &BadError{Entry: bad.Entry[:min(len(bad.Entry), most)], Why: bad.Why[:min(len(bad.Why), most)]}}
	case !errors.As(err, &errno):
		return result{Text: err.Error()}
	}
	r := result{Errno: int(errno), Op: "unpack"}
	var path *fs.PathError
	var link *os.LinkError
	if errors.As(err, &path) {
		r.Op, r.Path = path.Op, path.Path
	} else if errors.As(err, &link) {
		r.Op, r.Path = link.Op, link.New
	}
	return r
}

// err is the error that the result says, nil for success.
func (r result) err() error {
	switch {
	case r.Done:
		return nil
	case r.Bad != nil:
		return r.Bad
	case r.Errno > 0:
		return &fs.PathError{Op: r.Op, Path: r.Path, Err: unix.Errno(r.Errno)}
	}
	return fmt.Errorf("unpack: %.500s", r.Text)
}
