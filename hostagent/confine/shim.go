package confine

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// verb is the hidden first argument by which the agent's binary becomes the
// shim: between fork and exec, it takes rules upon itself.
const verb = "drydock-confined"

// Args are the arguments with which the agent's own binary (/proc/self/exe)
// becomes argv, the program at path, under rules that it inherits as descriptor
// rules. What keeps it from that it writes to the descriptor status; status'
// end without a word means that the program runs.
func Args(rules, status int, path string, argv []string) []string {
	return append([]string{argv[0], verb, strconv.Itoa(rules), strconv.Itoa(status), path}, argv...)
}

// entered says what became of this process where it was started as the shim. The
// shim acts while Go initialises packages, and this one comes early, because
// it needs few: most of what the agent's start takes is the packages after it,
// and every command would wait for them once more.
var entered = become(os.Args)

// become returns false for a process that is no shim, true for one that could
// not become its program, and otherwise not at all.
func become(args []string) bool {
	if len(args) < 2 || args[1] != verb {
		return false
	}
	if len(args) < 6 {
		fmt.Fprintln(os.Stderr, "this verb is for the agent's own use")
		return true
	}
	rules, err1 := strconv.Atoi(args[2])
	status, err2 := strconv.Atoi(args[3])
	if err := errors.Join(err1, err2); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return true
	}
	unix.CloseOnExec(status)
	err := Enter(rules)
	if err == nil {
		err = Exec(args[4], args[5:])
	}
	Tell(status, err)
	return true
}

// Shim must be called first by main. Where ours is true this process was
// started as the shim, did not become its program, and must exit with code.
func Shim() (code int, ours bool) { return 127, entered }

// Exec makes this process the program at path, tried again while the program's
// file is still open for writing in a child forked a moment ago.
func Exec(path string, argv []string) error {
	for try := 0; ; try++ {
		err := syscall.Exec(path, argv, os.Environ())
		if !errors.Is(err, syscall.ETXTBSY) || try == 20 {
			return err
		}
		<-time.After(25 * time.Millisecond)
	}
}

// Tell writes to a status descriptor what Told reads.
func Tell(fd int, err error) {
	var errno syscall.Errno
	errors.As(err, &errno)
	fmt.Fprintf(os.NewFile(uintptr(fd), "status"), "%d %v", int(errno), err)
}

// Told is the error in what a shim wrote, which is nil for nothing: an errno
// alone where it was exec's.
func Told(text string) error {
	if text == "" {
		return nil
	}
	var n int
	if _, err := fmt.Sscan(text, &n); err == nil && n > 0 && text == fmt.Sprintf("%d %v", n, syscall.Errno(n)) {
		return syscall.Errno(n)
	}
	return errors.New(text)
}
