package nginx

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"drydock/hostagent/durable"
	"drydock/reconcile"
)

// maxFile is how large an upstream file may be.
const maxFile = 1 << 20

// place is where a server stands: the file as it was read, and its line.
type place struct {
	path   string // the file itself, where upstream_file is a symlink
	info   fs.FileInfo
	src    []byte
	all    []server
	server server
}

// gone says that there is no such place (any more).
type gone struct{ error }

// left reports whether err says that a place is gone that the declaration has
// moved on from: then nothing is in rotation there, and nothing of ours either.
func left(s reconcile.Step, err error) bool {
	if !errors.As(err, new(gone)) {
		return false
	}
	return s.Left()
}

// where is "web-1:8080 of upstream web (/etc/nginx/web.conf:3)".
func (p place) where() string {
	of := ""
	if p.server.upstream != "" {
		of = " of upstream " + p.server.upstream
	}
	return fmt.Sprintf("%s%s (%s:%d)", p.server.name, of, p.path, p.server.line)
}

// find reads the file and finds the one directive of the block's server. What
// is wrong is the host's fault: provisioning writes nginx's configuration.
func find(c config) (place, error) {
	if strings.ContainsAny(c.Server, "$ \t\r\n;{}\"'\\#") {
		return place{}, refuse(fmt.Errorf("server = %q is not an address as nginx's file has it", c.Server),
			"Name one address without variables and quotes, such as 10.0.0.5:8080 or unix:/run/web.sock.")
	}
	p, err := open(c.UpstreamFile)
	if err != nil {
		return place{}, err
	}
	if p.all, err = servers(p.src); err != nil {
		return place{}, refuse(fmt.Errorf("%s cannot be read as nginx's configuration: %w", p.path, err),
			"Run nginx -t, and mend the file.")
	}
	var lines, names []string
	for _, s := range p.all {
		names = append(names, s.name)
		if s.name == c.Server {
			p.server = s
			lines = append(lines, fmt.Sprint(s.line))
		}
	}
	switch {
	case len(p.all) == 0:
		return place{}, refuse(fmt.Errorf("%s lists no server of an upstream", p.path),
			"upstream_file is the file with the lines `server …;` themselves, not one that includes it.")
	case len(lines) == 0:
		return place{}, refuse(gone{fmt.Errorf("%s has no server %s; it has %s", p.path, c.Server, few(names))},
			"Add it there, or write the block's server exactly as the file has it.")
	case len(lines) > 1:
		return place{}, refuse(fmt.Errorf("%s has server %s %d times (lines %s), and which one is meant cannot be told", p.path, c.Server, len(lines), few(lines)),
			"Keep each upstream in a file of its own, and declare a drain block for each.")
	}
	return p, nil
}

// open reads a regular file of bearable size, and follows symlinks to it.
func open(path string) (place, error) {
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return place{}, refuse(gone{fmt.Errorf("there is no upstream file %s", path)}, "Provisioning makes it, with a line `server …;` for each host; Drydock only marks one down.")
	}
	if err != nil {
		return place{}, refuse(err, "upstream_file must be a file that the agent can read.")
	}
	// Non-blocking, so that a pipe there cannot hold the agent up.
	f, err := os.OpenFile(real, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return place{}, refuse(err, "upstream_file must be a file that the agent can read.")
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return place{}, durable.HostFault(err)
	}
	if !info.Mode().IsRegular() {
		return place{}, refuse(fmt.Errorf("%s is not a regular file", real), "Name the file that lists the upstream's servers.")
	}
	src, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return place{}, durable.HostFault(fmt.Errorf("drain nginx: read %s: %w", real, err))
	}
	if len(src) > maxFile {
		return place{}, refuse(fmt.Errorf("%s is larger than %d KiB", real, maxFile>>10), "Keep the upstream's servers in a file of their own.")
	}
	return place{path: real, info: info, src: src}, nil
}

// editable says why the server's line cannot be edited, or its file written.
func (p place) editable() error {
	if !p.server.alone {
		return refuse(fmt.Errorf("%s:%d: something follows server %s on its line, where the mark of the drain must stand", p.path, p.server.line, p.server.name),
			"Put each server on a line of its own.")
	}
	st, ok := p.info.Sys().(*syscall.Stat_t)
	if ok && st.Nlink > 1 {
		return refuse(fmt.Errorf("%s has %d names (hard links), of which a new content would reach one", p.path, st.Nlink), "Make it a file of one name; a symlink may stand for the others.")
	}
	if ok && os.Geteuid() != 0 && int(st.Uid) != os.Geteuid() {
		return refuse(fmt.Errorf("%s belongs to user %d, and the agent may not give a file away", p.path, st.Uid), "Run the agent as root, or give the file to its user.")
	}
	dir := filepath.Dir(p.path)
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return refuse(fmt.Errorf("%s cannot be replaced: its directory is not writable: %w", p.path, err), "Let the agent write in "+dir+", or keep the file where it may (and include it).")
	}
	return nil
}

// putBack undoes an edit that nginx did not take, unless somebody has changed
// the file since. It returns cause, and what failed besides.
func (p place) putBack(edited []byte, cause error) error {
	now, err := open(p.path)
	if err == nil && bytes.Equal(now.src, edited) {
		err = durable.Replace(p.path, p.src, p.info)
	}
	if err == nil {
		return cause
	}
	return reconcile.HostFault(fmt.Errorf("%w; and %s could not be put back: %w", cause, p.path, err), "Put it right by hand, and reload nginx.")
}

func refuse(err error, hint string) error {
	return reconcile.HostFault(fmt.Errorf("drain nginx: %w", err), hint)
}

// few are the first names of a list, for a person.
func few(names []string) string {
	const most = 8
	if len(names) > most {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names, ", ")
}
