package argv

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"drydock/hostagent/proc"
)

// verb is the hidden first argument by which the agent's binary becomes the
// shim: between fork and exec of a program that must be known again, it says
// durably who it is.
const verb = "drydock-shim"

// The descriptors that the shim inherits.
const (
	lockFD   = 3 // already locked; the lock lives as long as anything that inherited it
	recordFD = 4 // takes the record
	statusFD = 5 // takes an error; its end without one means that the program runs
	keptFD   = 100
)

// record is what the shim writes: which process it is and will be, and what
// it was started as.
type record struct {
	proc.ID
	Ident string `json:"ident"`
}

// Shim must be called first by main with os.Args. Where ours is true this
// process was started as the shim, did not become its program, and must exit
// with code.
func Shim(args []string) (code int, ours bool) {
	if len(args) < 2 || args[1] != verb {
		return 0, false
	}
	if len(args) < 5 {
		fmt.Fprintln(os.Stderr, "this verb is for the agent's own use")
		return 2, true
	}
	status := os.NewFile(statusFD, "status")
	err := become(args[2], args[3], args[4:])
	// Nothing was run: the record must not say so.
	_ = unix.Ftruncate(recordFD, 0)
	_ = unix.Fsync(recordFD)
	var errno syscall.Errno
	errors.As(err, &errno)
	fmt.Fprintf(status, "%d %v", int(errno), err)
	return 127, true
}

func become(ident, path string, argv []string) error {
	id, err := proc.Of(os.Getpid())
	if err != nil {
		return err
	}
	data, err := json.Marshal(record{id, ident})
	if err != nil {
		return err
	}
	if _, err := unix.Pwrite(recordFD, data, 0); err != nil {
		return fmt.Errorf("write the record: %w", err)
	}
	if err := unix.Fsync(recordFD); err != nil {
		return fmt.Errorf("write the record: %w", err)
	}
	// Out of the way of programs that count on low descriptors being free.
	kept, err := unix.FcntlInt(lockFD, unix.F_DUPFD, keptFD)
	if err != nil {
		kept = lockFD
	}
	for _, fd := range []int{lockFD, recordFD, statusFD} {
		if fd != kept {
			unix.CloseOnExec(fd)
		}
	}
	for try := 0; ; try++ {
		err = syscall.Exec(path, argv, os.Environ())
		if !errors.Is(err, syscall.ETXTBSY) || try == 20 {
			return err
		}
		<-time.After(25 * time.Millisecond)
	}
}

// statusError reads what the shim wrote to its status descriptor.
func statusError(text string) error {
	if text == "" {
		return nil
	}
	var n int
	if _, err := fmt.Sscan(text, &n); err == nil && n > 0 {
		return syscall.Errno(n)
	}
	return errors.New(text)
}

// unique is a text that no other run ever has.
func unique() string { return strconv.Itoa(os.Getpid()) + "-" + rand.Text() }

// awaitStatus reads the shim's last word, bounded.
func awaitStatus(ctx context.Context, r *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 0, 4096)
	for len(buf) < cap(buf) {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			break
		}
	}
	return statusError(string(buf))
}
