package web

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"drydock/hostagent/durable"
	"drydock/reconcile"
	"drydock/spec"
)

type drainConfig struct {
	Drain   string        `json:"drain"`
	Undrain string        `json:"undrain"`
	Method  string        `json:"method"`
	Idle    string        `json:"idle"`
	Timeout spec.Duration `json:"timeout"`
}

// idleEvery is how often the idle URL is asked.
const idleEvery = 250 * time.Millisecond

// Drain is drain "http". What was called cannot be asked whether it is
// drained, so a note below the state directory says which call was the last
// that succeeded; both calls must bear being made twice.
type Drain struct{ env reconcile.Env }

// NewDrain is the driver of one agent.
func NewDrain(env reconcile.Env) *Drain { return &Drain{env: env} }

func (d *Drain) note(s reconcile.Step) string {
	sum := sha256.Sum256([]byte(s.Block.ID() + "\x00" + string(s.Block.Config)))
	return filepath.Join(d.env.StateDir, s.Service, "called-"+hex.EncodeToString(sum[:6]))
}

// call is the URL that a step calls.
func (c drainConfig) call(s reconcile.Step) string {
	if s.Phase == reconcile.Undrain {
		return c.Undrain
	}
	return c.Drain
}

// said is what the note says after this call.
func said(s reconcile.Step, c drainConfig) string { return s.Phase.String() + " " + c.call(s) }

// Done reports whether this call was the last that succeeded.
func (d *Drain) Done(ctx context.Context, s reconcile.Step) (bool, error) {
	var c drainConfig
	if err := s.Block.Decode(&c); err != nil {
		return false, err
	}
	last, err := os.ReadFile(d.note(s))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, reconcile.HostFault(err, "Mend the state directory.")
	}
	return string(last) == said(s, c), nil
}

// Do calls drain, and waits until idle answers 200; or undrain. If the idle
// URL has not answered so within the timeout, that is the host's fault: the
// service is left in peace.
func (d *Drain) Do(ctx context.Context, s reconcile.Step) error {
	var c drainConfig
	if err := s.Block.Decode(&c); err != nil {
		return err
	}
	outer := ctx
	ctx, cancel := context.WithTimeout(ctx, time.Duration(c.Timeout))
	defer cancel()
	if err := durable.Remove(d.note(s)); err != nil {
		return reconcile.HostFault(err, "Mend the state directory.")
	}
	err := d.act(ctx, s, c)
	if err == nil {
		err = durable.MkdirAll(filepath.Dir(d.note(s)), 0o700)
		if err == nil {
			err = durable.WriteFile(d.note(s), []byte(said(s, c)), 0o600)
		}
	}
	if outer.Err() != nil && err != nil {
		return outer.Err()
	}
	if err != nil && reconcile.BlameOf(err) == reconcile.Transient {
		return reconcile.HostFault(err, "See why it does not answer; the service is not touched before it does.")
	}
	return err
}

func (d *Drain) act(ctx context.Context, s reconcile.Step, c drainConfig) error {
	target := c.call(s)
	status, body, err := ask(ctx, method(c), target)
	if err != nil && s.Phase != reconcile.Undrain && nobody(err, target) {
		// A service that is dead serves nobody; that it cannot be told so must
		// not keep its next release away.
		d.say(s, "nothing listens at "+target+": out of rotation\n")
		return nil
	}
	if err != nil {
		return err
	}
	if status < 200 || status > 299 {
		return fmt.Errorf("%s %s answered status %d: %s", method(c), target, status, excerpt(body))
	}
	if s.Phase == reconcile.Undrain || c.Idle == "" {
		return nil
	}
	for {
		status, _, err := ask(ctx, http.MethodGet, c.Idle)
		if err == nil && status == http.StatusOK || nobody(err, c.Idle) {
			return nil
		}
		if !sleep(ctx, idleEvery) {
			return fmt.Errorf("%s has not answered 200 within %v (last: status %d, %v)", c.Idle, c.Timeout, status, err)
		}
	}
}

func method(c drainConfig) string {
	if c.Method == "" {
		return http.MethodPost
	}
	return c.Method
}

// Observe cannot tell: there is nothing to ask that changes nothing.
func (d *Drain) Observe(context.Context, reconcile.Step) (reconcile.Condition, error) {
	return reconcile.Condition{Is: reconcile.Unknown, Detail: "an HTTP drain cannot be asked"}, nil
}

func (d *Drain) say(s reconcile.Step, text string) {
	if d.env.Output == nil {
		return
	}
	if w := d.env.Output(s); w != nil {
		_, _ = io.WriteString(w, text)
	}
}
