package archive

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"drydock/hostagent/confine"
	"drydock/reconcile"
)

// What unpacking may take, beside Limits. Archives at all of their limits stay
// far below; a program that lost its way does not.
const (
	unpackTime   = 30 * time.Minute
	unpackCPU    = 10 * time.Minute
	unpackMemory = 768 << 20 // writable; Go's own share is 200 MiB of it at the least
	unpackHeap   = "GOMEMLIMIT=192MiB"
	unpackFiles  = 64
)

// apart is one unpacking in a process of its own.
type apart struct {
	order order
	dir   string // is filled
	abi   int    // see confine.Rules.ABI
	argv  []string
}

func newApart(dir string, o order) (apart, error) {
	text, err := json.Marshal(o)
	return apart{order: o, dir: dir, argv: []string{"hostagent", verb, string(text)}}, err
}

// run unpacks src into dir, in a process that runs as the owner of dir (of an
// agent that is root), that can write to dir and read nothing but src, and that
// is killed when ctx ends. It has nothing else: no network, no program, no
// other process. The tree is looked through afterwards, whatever was said of it.
func (a apart) run(ctx context.Context, src *os.File) error {
	ctx, cancel := context.WithTimeoutCause(ctx, unpackTime, fmt.Errorf("unpacking had not ended after %v", unpackTime))
	defer cancel()
	tree, err := os.Open(a.dir)
	if err != nil {
		return err
	}
	defer tree.Close()
	cmd, said, err := a.command(ctx, src, tree)
	if err != nil {
		return err
	}
	defer said.close()
	var words bytes.Buffer
	cmd.Stderr = &limited{to: &words, left: 8 << 10}
	err = cmd.Start()
	said.theirs()
	if err != nil {
		return reconcile.HostFault(fmt.Errorf("start a process to unpack in: %w", err), "See what keeps this host from starting processes")
	}
	status, result := said.read(ctx)
	err = cmd.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if failed := confine.Told(status); failed != nil {
		return reconcile.HostFault(fmt.Errorf("confine the process that unpacks: %w", failed), "See what keeps this host from it; nothing is unpacked without")
	}
	if err := outcome(result, err, words.String()); err != nil {
		return err
	}
	return a.inspect(ctx)
}

// said are the pipes that the unpacker writes to.
type said struct{ status, result, theirStatus, theirResult, rules, program *os.File }

func (s *said) close() {
	s.status.Close()
	s.result.Close()
	s.theirs()
}

// theirs lets go of what only the child is to hold.
func (s *said) theirs() {
	for _, f := range []*os.File{s.theirStatus, s.theirResult, s.rules, s.program} {
		f.Close()
	}
}

// read is all that the unpacker says, until it is gone or ctx ends.
func (s *said) read(ctx context.Context) (status string, result []byte) {
	stop := context.AfterFunc(ctx, func() {
		_ = s.status.SetReadDeadline(time.Unix(1, 0))
		_ = s.result.SetReadDeadline(time.Unix(1, 0))
	})
	defer stop()
	word, _ := io.ReadAll(io.LimitReader(s.status, maxResult))
	result, _ = io.ReadAll(io.LimitReader(s.result, maxResult))
	// One that goes on talking must not wait for a listener.
	s.status.Close()
	s.result.Close()
	return string(word), result
}

func (a apart) command(ctx context.Context, src, tree *os.File) (*exec.Cmd, *said, error) {
	s := &said{}
	err := s.open(a.rules())
	if err != nil {
		s.close()
		return nil, nil, reconcile.HostFault(fmt.Errorf("start a process to unpack in: %w", err), "See what keeps this host from it")
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(tree.Fd()), &st); err != nil {
		s.close()
		return nil, nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Args = confine.Args(rulesFD, statusFD, self, a.argv)
	cmd.Dir, cmd.Env = "/", []string{unpackHeap}
	cmd.ExtraFiles = []*os.File{s.rules, s.theirStatus, src, tree, s.theirResult, s.program}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() == 0 && st.Uid != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: st.Uid, Gid: st.Gid}
	}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	return cmd, s, nil
}

// self is the agent's own file, even if it was replaced since it was started.
const self = "/proc/self/exe"

func (s *said) open(rules confine.Rules) (err error) {
	if s.rules, err = rules.File(); err != nil {
		return err
	}
	if s.program, err = os.OpenFile(self, unix.O_PATH, 0); err != nil {
		return err
	}
	if s.status, s.theirStatus, err = os.Pipe(); err != nil {
		return err
	}
	s.result, s.theirResult, err = os.Pipe()
	return err
}

func (a apart) rules() confine.Rules {
	limits := a.order.Limits.orDefault()
	r := confine.Rules{
		Fill: []int{treeFD}, Programs: []int{programFD}, Still: true, Private: true, NoTCP: true, ABI: a.abi,
		Limits: confine.Limits{
			NoCore: true, FileSize: uint64(limits.Bytes), Memory: unpackMemory, Files: unpackFiles, CPU: uint64(unpackCPU.Seconds()),
		},
	}
	if raced {
		r.Limits.Memory = 0 // its shadows are counted too
	}
	if dynamic {
		r.Read = []string{"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache"}
	}
	return r
}

// outcome is the error that an unpacker's end means. One that ends without a
// word was brought to it by what it read, unless somebody killed it.
func outcome(said []byte, end error, words string) error {
	var r result
	if err := json.Unmarshal(said, &r); err == nil && len(said) < maxResult && end == nil {
		return r.err()
	}
	var exit *exec.ExitError
	if !errors.As(end, &exit) {
		return errors.Join(errors.New("the process that unpacks said nothing that makes sense"), end)
	}
	switch status, _ := exit.Sys().(syscall.WaitStatus); {
	case status.Signaled() && status.Signal() == unix.SIGXCPU:
		return bad("", "takes more than %v of processor time to unpack", unpackCPU)
	case status.Signaled() && status.Signal() == unix.SIGKILL:
		// The kernel's limit of processor time ends so as well, a second late.
		return reconcile.HostFault(errors.New("the process that unpacks was killed, and not by the agent"),
			"See in the kernel's log whether memory ran out (journalctl -k); it is tried again")
	}
	if line, _, _ := strings.Cut(strings.TrimSpace(words), "\n"); line != "" {
		return bad("", "makes the process that unpacks it end (%v: %.200q)", exit, line)
	}
	return bad("", "makes the process that unpacks it end (%v)", exit)
}

// limited passes on the beginning of what it is given, and takes it all.
type limited struct {
	to   io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	k := min(len(p), l.left)
	l.left -= k
	if _, err := l.to.Write(p[:k]); err != nil {
		return 0, err
	}
	return len(p), nil
}
