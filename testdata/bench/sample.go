package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// sample is what one whole process cost, with every child it waited for.
type sample struct {
	Wall   time.Duration
	CPU    time.Duration // user and system
	Memory int64         // bytes, the largest of its processes; never less than this bench's own, out of which it is made
}

// patience is how long any process may take.
const patience = 2 * time.Minute

// run runs a program to its end and measures it. It fails unless the exit code
// is one of the good ones.
func run(ctx context.Context, env []string, argv ...string) (sample, string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.WaitDelay = time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	began := time.Now()
	err := cmd.Run()
	s := sample{Wall: time.Since(began)}
	if err != nil {
		return s, out.String(), fmt.Errorf("%s: %w\n%s%s", strings.Join(argv, " "), err, out.String(), errs.String())
	}
	u := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	s.CPU = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	s.Memory = u.Maxrss << 10
	return s, out.String(), nil
}

// spread is the middle of some values, and how far they lie apart.
type spread struct {
	Median, Low, High float64 // Low and High: quartiles
}

func over[T any](samples []T, value func(T) float64) spread {
	var vs []float64
	for _, s := range samples {
		vs = append(vs, value(s))
	}
	return spreadOf(vs)
}

func spreadOf(vs []float64) spread {
	if len(vs) == 0 {
		return spread{}
	}
	slices.Sort(vs)
	at := func(q float64) float64 { return vs[int(q*float64(len(vs)-1)+0.5)] }
	return spread{at(0.5), at(0.25), at(0.75)}
}

// ratios pair by pair: a moment at which the machine was busy hits both.
func ratios(ours, theirs []sample, value func(sample) float64) spread {
	var vs []float64
	for i := range ours {
		if d := value(theirs[i]); d > 0 {
			vs = append(vs, value(ours[i])/d)
		}
	}
	return spreadOf(vs)
}

func wall(s sample) float64   { return s.Wall.Seconds() * 1e3 }
func cpu(s sample) float64    { return s.CPU.Seconds() * 1e3 }
func memory(s sample) float64 { return float64(s.Memory) / (1 << 20) }

// turns runs each side once to warm up and then in turn, so often.
func turns(rounds int, sides ...func(round int) (sample, error)) ([][]sample, error) {
	all := make([][]sample, len(sides))
	for round := range rounds + 1 {
		for i, side := range sides {
			s, err := side(round)
			if err != nil {
				return all, err
			}
			if round > 0 {
				all[i] = append(all[i], s)
			}
		}
	}
	return all, nil
}

// tick is the unit of CPU time in /proc/PID/stat; Linux shows 100 a second to
// every program.
const tick = 10 * time.Millisecond

// usage is the CPU time of a process and of the children it waited for.
func usage(pid int) (self, children time.Duration, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	// The name may hold spaces and brackets.
	_, rest, ok := strings.Cut(string(data[bytes.LastIndexByte(data, ')'):]), " ")
	f := strings.Fields(rest)
	if !ok || len(f) < 15 {
		return 0, 0, errors.New("/proc/PID/stat is not as expected")
	}
	var t [4]int64
	for i := range t {
		if t[i], err = strconv.ParseInt(f[11+i], 10, 64); err != nil {
			return 0, 0, err
		}
	}
	return time.Duration(t[0]+t[1]) * tick, time.Duration(t[2]+t[3]) * tick, nil
}

// private is the memory that is a process's alone.
func private(pid int) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	var sum int64
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) == 3 && (f[0] == "Private_Clean:" || f[0] == "Private_Dirty:") {
			kib, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				return 0, err
			}
			sum += kib << 10
		}
	}
	return sum, nil
}
