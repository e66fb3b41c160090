package systemd

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

// stop is the verb of a removal, beside restart and reload.
const stop = "stop"

// job is how a job of systemd ended.
type job struct {
	verb   string        // restart, reload, stop
	result string        // systemd's word: done, failed, canceled, dependency, timeout, …; "unseen" where only the unit can tell
	asked  uint64        // when it was asked for, µs of the kernel's monotonic clock
	limit  time.Duration // how long it could take
	late   time.Duration // limit, if it had not ended by then
}

const unseen = "unseen"

// job asks for a job and waits for its end, at most for limit; then it is
// cancelled. One whose end was not heard of, because the connection was lost,
// is watched until it is gone.
//
// A caller that ends meanwhile leaves the job to systemd: a service that was
// stopped to be started again is started.
func (b *bus) job(ctx context.Context, verb, name string, limit time.Duration) (job, error) {
	l, done, err := b.get(ctx)
	if err != nil {
		return job{}, err
	}
	defer done()
	over := time.NewTimer(limit)
	defer over.Stop()
	j := job{verb: verb, result: unseen, asked: monotonic(), limit: limit}
	ended := make(chan string, 1) // go-systemd waits for its reader for ever
	var id int
	err = b.within(ctx, l, func(ctx context.Context, l *link) (err error) {
		ask := l.RestartUnitContext
		switch verb {
		case reload:
			ask = l.ReloadUnitContext
		case stop:
			ask = l.StopUnitContext
		}
		id, err = ask(ctx, name, "replace", ended)
		return err
	})
	if err != nil {
		return j, refused(ctx, name, err)
	}
	select {
	case j.result = <-ended:
		return j, nil
	case <-ctx.Done():
		return j, ctx.Err()
	case <-over.C:
		j.late = limit
		return j, b.cancel(ctx, uint32(id))
	case <-l.lost:
		return b.watch(ctx, name, j, over)
	}
}

// watch waits for the end of a job by looking at its unit.
func (b *bus) watch(ctx context.Context, name string, j job, over *time.Timer) (job, error) {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		u, err := b.unit(ctx, name)
		if err == nil && u.job == 0 {
			return j, nil
		}
		select {
		case <-ctx.Done():
			return j, ctx.Err()
		case <-over.C:
			if err != nil {
				return j, err // nobody knows; it is asked again
			}
			j.late = j.limit
			return j, b.cancel(ctx, u.job)
		case <-tick.C:
		}
	}
}

// cancel takes a job back; one that has ended meanwhile is no error.
func (b *bus) cancel(ctx context.Context, id uint32) error {
	err := b.ask(ctx, func(ctx context.Context, l *link) error {
		return l.raw[0].Object(managerName, managerPath).CallWithContext(ctx, managerName+".Manager.CancelJob", 0, id).Store()
	})
	if named(err, managerName+".NoSuchJob") {
		return nil
	}
	return err
}

// monotonic is the kernel's clock that systemd stamps processes with, in µs.
func monotonic() uint64 {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil {
		return 0
	}
	return uint64(now.Nano() / 1000)
}
