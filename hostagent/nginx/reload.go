package nginx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"drydock/hostagent/argv"
	"drydock/hostagent/proc"
	"drydock/reconcile"
)

// lookEvery is how often nginx's processes are looked at while a reload is
// waited for.
const lookEvery = 20 * time.Millisecond

// testTime bounds the question what is wrong with the configuration.
const testTime = 5 * time.Second

// ofHost is s without its release: the reload command is the host's, runs as
// the agent, and must never be a program that a release brings.
func ofHost(s reconcile.Step) reconcile.Step {
	s.Target.Install = nil
	return s
}

func runnable(s reconcile.Step, c config) error { return argv.ProgramsAs(ofHost(s), "", c.Reload) }

// reload runs the block's command. Whatever it says is the host's fault.
func (d *Drain) reload(ctx context.Context, s reconcile.Step, c config) error {
	_, err := argv.Run(ctx, d.env, ofHost(s), argv.Command{Argv: c.Reload, Timeout: time.Duration(c.Timeout), Grace: time.Second})
	var exit *argv.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	return reconcile.HostFault(fmt.Errorf("drain nginx: %w%s", exit, d.test(ctx, s, c, exit.Tail)), "Mend nginx's configuration; the file was put back, and it is tried again.")
}

// test is what nginx itself says of its configuration, where the reload
// command did not pass it on (systemctl does not).
func (d *Drain) test(ctx context.Context, s reconcile.Step, c config, said string) string {
	if strings.Contains(said, "nginx: [") {
		return ""
	}
	test := []string{"nginx", "-t"}
	if filepath.Base(c.Reload[0]) == "nginx" {
		test = slices.DeleteFunc(slices.Clone(c.Reload), func(a string) bool { return a == "-s" || a == "reload" })
		test = append(test, "-t")
	}
	_, err := argv.Run(ctx, reconcile.Env{}, ofHost(s), argv.Command{Argv: test, Timeout: testTime, Grace: time.Second})
	var exit *argv.ExitError
	if !errors.As(err, &exit) || exit.Tail == "" {
		return ""
	}
	return "\nnginx -t says:\n" + exit.Tail
}

// titles that nginx gives its processes.
const (
	titleMaster  = "nginx: master process"
	titleWorker  = "nginx: worker process"
	titleLeaving = "nginx: worker process is shutting down"
)

// crew is one nginx: its master's title and its workers.
type crew struct {
	title            string
	serving, leaving []proc.ID
}

// crews are all that can be seen on this host, by their master's pid.
func crews() map[int]*crew {
	all := map[int]*crew{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return all
	}
	of := func(master int) *crew {
		if all[master] == nil {
			all[master] = &crew{title: title(master)}
		}
		return all[master]
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		title := title(pid)
		if strings.HasPrefix(title, titleMaster) {
			of(pid)
		}
		if !strings.HasPrefix(title, titleWorker) {
			continue
		}
		id, err := proc.Of(pid)
		master := parent(pid)
		if err != nil || master == 0 {
			continue // gone meanwhile
		}
		if title == titleLeaving {
			of(master).leaving = append(of(master).leaving, id)
		} else {
			of(master).serving = append(of(master).serving, id)
		}
	}
	return all
}

// meant are those of all that a reload command can mean: where it is nginx
// itself, those that were started with the same -p and -c, if there are any.
func meant(all map[int]*crew, reload []string) map[int]*crew {
	if filepath.Base(reload[0]) != "nginx" {
		return all
	}
	want := instance(reload)
	same := maps.Clone(all)
	maps.DeleteFunc(same, func(_ int, c *crew) bool { return instance(strings.Fields(c.title)) != want })
	if len(same) == 0 {
		return all
	}
	return same
}

// instance is what tells one nginx from another on its command line.
func instance(args []string) (values [2]string) {
	for i, flag := range []string{"-p", "-c"} {
		if at := slices.Index(args, flag); at >= 0 && at+1 < len(args) {
			values[i] = args[at+1]
		}
	}
	return values
}

// title is a process's command line up to the first NUL.
func title(pid int) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return ""
	}
	data, _, _ = bytes.Cut(data, []byte{0})
	return string(bytes.TrimRight(data, " "))
}

func parent(pid int) int {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(f) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(f[1])
	return n
}

// takenUp waits until an nginx that the command can mean serves by workers
// that were not there before, and by none that were; it returns those of it
// that still finish.
func takenUp(ctx context.Context, before map[int]*crew, c config) ([]proc.ID, error) {
	was := map[proc.ID]bool{}
	for _, b := range before {
		for _, id := range b.serving {
			was[id] = true
		}
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		for _, now := range meant(crews(), c.Reload) {
			if len(now.serving) > 0 && !slices.ContainsFunc(now.serving, func(id proc.ID) bool { return was[id] }) {
				return now.leaving, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, reconcile.HostFault(fmt.Errorf("drain nginx: %s succeeded, but nginx has started no new workers within %v: %w", strings.Join(c.Reload, " "), c.Timeout, ctx.Err()),
				"Its error log says why; the file was put back, and it is tried again.")
		case <-tick.C:
		}
	}
}
