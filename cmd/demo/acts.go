package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// act is one bump under traffic.
type act struct {
	name     string
	sentence string
	note     string // said beside the plan
	release  release
	from     string // what runs before
	drain    bool   // the declaration has its drain block
	want     string // the state that the host must end in
	before   func(context.Context, *demo) error
}

// story is what the demo shows, in order.
func story() []act {
	return []act{
		{
			name:     "A bump",
			sentence: "One commit names 1.1.0. The host leaves rotation, changes and comes back; requests wait that long, and none fails.",
			note:     "(An agent acts within milliseconds of a push. Here it is paused for as long as its plan is shown.)",
			release:  release{Version: "1.1.0"}, from: "1.0.0", drain: true, want: "converged",
		},
		{
			name:     "A broken release",
			sentence: "1.2.0 dies as it starts. The host goes back to 1.1.0 by itself; no request ever sees 1.2.0, and none fails.",
			release:  release{Version: "1.2.0", Broken: true}, from: "1.1.0", drain: true, want: "reverted",
		},
		{
			name:     "The same bump without drain",
			sentence: "The figure can fail: without its drain block the service is replaced while requests come in.",
			release:  release{Version: "1.3.0"}, from: "1.1.0", drain: false, want: "converged",
			before: dropDrain,
		},
	}
}

// Figures of the whole demo, as --output json prints them.
type report struct {
	OK   bool         `json:"ok"` // no request failed with drain, and some did without
	Acts []actFigures `json:"acts"`
}

type actFigures struct {
	Act        string         `json:"act"`
	From       string         `json:"from"`
	To         string         `json:"to"`
	Drain      bool           `json:"drain"`
	State      string         `json:"state"`   // of the service, at the end
	Running    string         `json:"running"` // the version that runs then
	Sent       int            `json:"sent"`
	Failed     int            `json:"failed"`
	LongestMS  int64          `json:"longest_wait_ms"`
	Answered   map[string]int `json:"answered"` // requests by the version that answered
	FirstError string         `json:"first_error,omitempty"`
	Steps      []StepFigures  `json:"steps"`
}

// StepFigures are a step that ended.
type StepFigures struct {
	ID      string `json:"id"`
	Purpose string `json:"purpose"` // of its plan: deploy, revert
	OK      bool   `json:"ok"`
	Reason  string `json:"reason,omitempty"`
	Millis  int64  `json:"ms"`
}

// asPromised reports whether the act's figure is what the demo claims.
func (a actFigures) asPromised() bool { return a.Sent > 0 && (a.Failed == 0) == a.Drain }

const (
	calm     = 700 * time.Millisecond  // of traffic before and after, so that both are seen
	reading  = 1500 * time.Millisecond // of a plan; a person gets twice that
	deadline = 12 * time.Second        // of a request; the proxy gives up before
	refresh  = 80 * time.Millisecond
)

// play runs one act and returns its figures.
func (d *demo) play(ctx context.Context, n int, a act) (actFigures, error) {
	d.screen.Act(n, a.name, a.sentence)
	if err := d.enter(ctx); err != nil {
		return actFigures{}, err
	}
	if a.before != nil {
		if err := a.before(ctx, d); err != nil {
			return actFigures{}, err
		}
	}
	if _, err := pack(d.artifacts, a.release); err != nil {
		return actFigures{}, err
	}
	load := d.newLoad()
	load.Start(ctx)
	board := &Board{screen: d.screen, load: load, from: a.from, to: a.release.Version, legend: n == 1}
	web, err := d.bump(ctx, board, a)
	f := load.Stop()
	board.Leave(time.Now())
	if err != nil {
		return actFigures{}, err
	}
	if web.State != a.want {
		return actFigures{}, fmt.Errorf("web is %s, not %s: %s", web.State, a.want, web.Reason)
	}
	d.screen.Line()
	d.screen.Line(d.screen.paint(stateStyle(web.State), web.State), "  web runs ", web.Running.Version, ", the repository names ", web.Wanted.Version)
	if web.Reason != "" {
		d.screen.Say(dim, web.Reason)
	}
	return actFigures{
		Act: a.name, From: a.from, To: a.release.Version, Drain: a.drain, State: web.State, Running: web.Running.Version,
		Sent: f.Sent, Failed: f.Failed, LongestMS: f.Longest.Milliseconds(), Answered: f.Answered, FirstError: f.Error, Steps: board.Steps(),
	}, nil
}

// bump makes the commit, shows the plan, and follows the host to its end.
func (d *demo) bump(ctx context.Context, board *Board, a act) (serviceStatus, error) {
	if err := pause(ctx, calm); err != nil {
		return serviceStatus{}, err
	}
	// A running agent acts within milliseconds of a push. It is paused, so that the
	// plan can be read before it is carried out; the commit is not.
	if err := d.host.ask(ctx, nil, "pause"); err != nil {
		return serviceStatus{}, err
	}
	d.screen.Command(fmt.Sprintf("drydock bump web --env %s --version %s --fetch --push", environment, a.release.Version))
	if _, err := d.repo.run(ctx, d.bin.drydock, "bump", "web", "--env", environment, "--version", a.release.Version, "--fetch", "--push", "-C", d.repo.dir); err != nil {
		return serviceStatus{}, err
	}
	if err := d.showCommit(ctx); err != nil {
		return serviceStatus{}, err
	}
	d.screen.Line()
	d.screen.Command("hostagent plan")
	if a.note != "" {
		d.screen.Say(dim, a.note)
	}
	var p plan
	if err := d.host.ask(ctx, &p, "plan"); err != nil {
		return serviceStatus{}, err
	}
	board.Plan(p)
	read := reading
	if d.attended() {
		read *= 2
	}
	if err := d.watch(ctx, board, read); err != nil {
		return serviceStatus{}, err
	}
	return d.follow(ctx, board)
}

// watch keeps the board on for a while.
func (d *demo) watch(ctx context.Context, board *Board, while time.Duration) error {
	over := time.NewTimer(while)
	defer over.Stop()
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	for {
		board.Draw(time.Now())
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-over.C:
			return nil
		case e := <-d.host.events:
			board.See(e)
		case <-tick.C:
		}
	}
}

// follow lets the agent go on and shows what it does, until it is done with
// the newest commit.
func (d *demo) follow(ctx context.Context, board *Board) (serviceStatus, error) {
	head, err := d.repo.head(ctx)
	if err != nil {
		return serviceStatus{}, err
	}
	if err := d.host.ask(ctx, nil, "resume"); err != nil {
		return serviceStatus{}, err
	}
	type answer struct {
		web serviceStatus
		err error
	}
	ended := make(chan answer, 1)
	go func() {
		web, err := d.host.At(ctx, head)
		ended <- answer{web, err}
	}()
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	for {
		select {
		case e := <-d.host.events:
			board.See(e)
		case <-tick.C:
		case <-d.host.done:
			return serviceStatus{}, errors.New("the agent ended")
		case got := <-ended:
			if got.err != nil {
				return got.web, got.err
			}
			return got.web, d.watch(ctx, board, calm)
		}
		board.Draw(time.Now())
	}
}

// dropDrain brings the repository back to what runs, and takes the drain block
// out. Each is a commit, and neither touches the service.
func dropDrain(ctx context.Context, d *demo) error {
	d.screen.Command("drydock rollback web --env " + environment + " --to 1.1.0 --push")
	if _, err := d.repo.run(ctx, d.bin.drydock, "rollback", "web", "--env", environment, "--to", "1.1.0", "--push", "-C", d.repo.dir); err != nil {
		return err
	}
	if err := d.showCommit(ctx); err != nil {
		return err
	}
	if err := d.settle(ctx); err != nil {
		return err
	}
	d.screen.Line()
	if err := d.repo.cutOut(fmt.Sprintf(drainBlock, "", "", d.drainFile)); err != nil {
		return err
	}
	d.screen.Command("git commit -am 'Try it without drain' && git push")
	if err := d.repo.commit(ctx, "Try it without drain"); err != nil {
		return err
	}
	if err := d.repo.push(ctx); err != nil {
		return err
	}
	if err := d.showCommit(ctx); err != nil {
		return err
	}
	if err := d.settle(ctx); err != nil {
		return err
	}
	d.screen.Line()
	return nil
}

// showCommit shows the newest commit and what it changes.
func (d *demo) showCommit(ctx context.Context) error {
	subject, err := d.repo.lastCommit(ctx)
	if err != nil {
		return err
	}
	diff, err := d.repo.lastDiff(ctx)
	if err != nil {
		return err
	}
	d.screen.Line("  ", d.screen.paint(cyan, subject))
	d.screen.Diff(diff)
	return nil
}

// settle waits until the host has taken up the newest commit, with no traffic
// to look at.
func (d *demo) settle(ctx context.Context) error {
	head, err := d.repo.head(ctx)
	if err != nil {
		return err
	}
	web, err := d.host.At(ctx, head)
	if err == nil && web.State != "converged" {
		err = fmt.Errorf("web is %s: %s", web.State, web.Reason)
	}
	return err
}

func stateStyle(state string) style {
	if state == "converged" {
		return green
	}
	return yellow
}

// tell ends the story with the figures.
func (d *demo) tell(r report) {
	s := d.screen
	s.Act(len(r.Acts)+1, "What it came to", "Each request counts, from the first before the bump to the last after it.")
	s.Line(pad("", 32), padLeft("sent", 10), padLeft("failed", 10), padLeft("longest wait", 16))
	for _, a := range r.Acts {
		f := padLeft(count(a.Failed), 10)
		if a.Failed > 0 {
			f = s.paint(red, f)
		} else {
			f = s.paint(green, f)
		}
		s.Line(pad(a.Act, 32), padLeft(count(a.Sent), 10), f, padLeft(short(time.Duration(a.LongestMS)*time.Millisecond), 16))
	}
	s.Line()
	for _, a := range r.Acts {
		switch {
		case a.asPromised():
		case a.Drain:
			s.Say(red, fmt.Sprintf("%s: %d requests failed, and none should have: %s", a.Act, a.Failed, a.FirstError))
		default:
			s.Say(red, fmt.Sprintf("%s: no request failed, so the figure proves nothing.", a.Act))
		}
	}
	if r.OK {
		s.Line(s.paint(green, "✓"), " No request failed while Drydock drained; without drain, some did.")
	}
	s.Line()
}

// remove takes the temporary directory away, and says so if it cannot.
func remove(s *Screen, dir string) {
	if err := os.RemoveAll(dir); err != nil {
		s.Line("the temporary directory is left: ", err.Error())
	}
}
